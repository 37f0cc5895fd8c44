"""Exact mean and standard deviation of the colours of images: values are counted, not summed."""

from __future__ import annotations

import torch
from torch import Tensor

Statistics = dict[str, list[float]]
"""{"mean": three numbers, "std": three numbers}: red, green, blue on a scale of 0..1."""

UNCHANGED: Statistics = {"mean": [0.0] * 3, "std": [1.0] * 3}
IMAGENET: Statistics = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def value_counts(images: Tensor) -> Tensor:
    """The count of each value in each channel: (n, H, W, 3) uint8 -> (3, 256) int64."""
    return torch.stack(
        [torch.bincount(images[..., channel].flatten(), minlength=256) for channel in range(3)]
    )


def statistics_of(counts: Tensor) -> Statistics:
    """Mean and std of three channels, from the counts of their values, (3, 256) int64.

    A channel with a single value gets std 1, since images are divided by it.
    """
    values = torch.arange(256, dtype=torch.float64) / 255
    total = counts.sum(1)
    mean = (counts * values).sum(1) / total
    variance = (counts * (values - mean[:, None]) ** 2).sum(1) / total
    std = torch.where(variance > 0, variance.sqrt(), 1.0)
    return {"mean": mean.tolist(), "std": std.tolist()}
