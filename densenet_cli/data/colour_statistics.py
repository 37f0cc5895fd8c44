"""Exact mean and standard deviation of the colours of images: values are counted, not summed."""

from __future__ import annotations

import torch
from torch import Tensor

Statistics = dict[str, list[float]]
"""{"mean": numbers, "std": numbers}: of red, green and blue, or of the grey level, all on 0..1."""

IMAGENET: Statistics = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
LUMA = (0.299, 0.587, 0.114)  # red, green and blue in the grey level of a pixel: ITU-R BT.601


def unchanged(channels: int) -> Statistics:
    """Those with which images are only divided by 255."""
    return {"mean": [0.0] * channels, "std": [1.0] * channels}


def imagenet(channels: int) -> Statistics:
    """Those of ImageNet. For grey levels: the luma of its mean and of its std.

    The mean of grey levels is the luma of the mean colour. Their std is that of the std only if red,
    green and blue rise and fall together; it is a little lower.
    """
    if channels == 3:
        return IMAGENET
    return {
        name: [sum(weight * number for weight, number in zip(LUMA, numbers, strict=True))]
        for name, numbers in IMAGENET.items()
    }


def value_counts(images: Tensor) -> Tensor:
    """The count of each value in each channel: (n, H, W, C) uint8 -> (C, 256) int64."""
    channels = range(images.shape[3])
    return torch.stack(
        [torch.bincount(images[..., channel].flatten(), minlength=256) for channel in channels]
    )


def std_of_all(counts: Tensor) -> float:
    """The standard deviation of all values of all channels, 0..1: as Torch7's std(), with n - 1.

    Args:
        counts: of the values of each channel, (3, 256) int64. If all are the same, the result is 1.
    """
    values, every = torch.arange(256, dtype=torch.float64) / 255, counts.sum(0)
    mean = (every * values).sum() / every.sum()
    variance = (every * (values - mean) ** 2).sum() / (every.sum() - 1)
    return variance.sqrt().item() or 1.0


def statistics_of(counts: Tensor) -> Statistics:
    """Mean and std of each channel, from the counts of its values, (C, 256) int64.

    A channel with a single value gets std 1, since images are divided by it.
    """
    values = torch.arange(256, dtype=torch.float64) / 255
    total = counts.sum(1)
    mean = (counts * values).sum(1) / total
    variance = (counts * (values - mean[:, None]) ** 2).sum(1) / total
    std = torch.where(variance > 0, variance.sqrt(), 1.0)
    return {"mean": mean.tolist(), "std": std.tolist()}
