"""Normalisation by numbers for each pixel: the mean image, and whitening of whole images (ZCA).

They are measured on the training images, and saved in checkpoints: a network needs those that it was
trained with, to the last bit. This is for small images of one size: the whitening matrix for images of
32x32 pixels has 3072 x 3072 numbers, 38 MB.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from densenet_cli.data.augmentation import Scale

KINDS = ("pixel_mean", "pixel_mean_std", "zca")
CONTRAST = 55.0
"""The norm of an image after its contrast is normalised: pylearn2, make_cifar10_gcn_whitened.py."""
FILTER_BIAS = 0.1
"""What is added to the variances before whitening: pylearn2, preprocessing.ZCA."""
SAVED = "pixel_statistics"  # the key in the state of a data set, which a checkpoint holds


@dataclass(frozen=True)
class PixelStatistics:
    """What is measured on training images of H x W pixels, C channels.

    Attributes:
        kind: one of KINDS.
        mean: (H, W, C) float32. The mean image on a scale of 0..1; of "zca" that of the images whose
            contrast is normalised.
        std: what is divided by, on the same scale: 1 for "pixel_mean".
        matrix: of "zca", symmetric, (C H W, C H W) float32; else None.
    """

    kind: str
    mean: Tensor
    std: float = 1.0
    matrix: Tensor | None = None

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images, in pixels."""
        return self.mean.shape[0], self.mean.shape[1]

    def state(self) -> dict[str, Any]:
        """As plain data and tensors."""
        return {"kind": self.kind, "mean": self.mean, "std": self.std, "matrix": self.matrix}

    def normaliser(self, device: torch.device) -> Scale | Whitening:
        """What normalises images, on a device."""
        mean = self.mean.to(device)
        if self.matrix is not None:
            return Whitening(mean, self.matrix.to(device))
        return Scale.of_pixels(mean, self.std)


def saved(checkpoint: Mapping[str, Any]) -> PixelStatistics | None:
    """What a checkpoint's network was trained with; None if it was none of KINDS."""
    parts = (part for part in checkpoint.values() if isinstance(part, Mapping))
    state = next((part[SAVED] for part in parts if SAVED in part), None)
    return None if state is None else PixelStatistics(**state)


def measured(kind: str, images: Tensor, chosen: np.ndarray, std: float) -> PixelStatistics:
    """Measure the chosen ones of the images (N, H, W, C) uint8.

    "pixel_mean" is that of He et al. 2015, sec. 4.2, "pixel_mean_std" that of the code of Huang et al.
    2016 (cifar-dataset.lua: the mean image, and one standard deviation of all numbers), "zca" that of
    the code which Zagoruyko and Komodakis 2016 used for their table 4 (pylearn2).

    Args:
        kind: one of KINDS.
        images: all images.
        chosen: indices of the training images.
        std: of all numbers of the chosen images, on a scale of 0..1, for "pixel_mean_std".
    """
    shape = images.shape[1:]
    if kind == "zca":
        return _whitening(images, chosen, shape)
    total = sum(part.sum(0, dtype=torch.int64) for part in _parts(images, chosen))
    mean = (total.double() / (255 * len(chosen))).float()  # type: ignore[union-attr]
    return PixelStatistics(kind, mean, std if kind == "pixel_mean_std" else 1.0)


def contrast_normalised(images: Tensor) -> Tensor:
    """Each image with the mean 0 and the norm CONTRAST over all its numbers; of one value, it is 0.

    Args:
        images: (n, H, W, C).

    Returns:
        (n, C H W), in the number format of the images, or float32 if they are bytes.
    """
    rows = images.flatten(1)
    rows = rows if rows.is_floating_point() else rows.float()
    rows = rows - rows.mean(1, keepdim=True)
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows * (CONTRAST / norms.masked_fill(norms < 0.1, CONTRAST))  # one byte other by one: 1


@dataclass(frozen=True)
class Whitening:
    """Normalises the contrast of each image, subtracts the mean image and multiplies by a matrix.

    Attributes:
        mean: (H, W, C) float32.
        matrix: (C H W, C H W) float32.
    """

    mean: Tensor
    matrix: Tensor

    def normalised(self, images: Tensor) -> Tensor:
        """Images (n, H, W, C), bytes or float32 of 0..255 -> (n, H, W, C) float32."""
        with torch.autocast(self.matrix.device.type, enabled=False):
            return self.whitened(images)

    def whitened(self, images: Tensor) -> Tensor:
        """The same; where autocast is on, with a product in its number format."""
        rows = contrast_normalised(images) - self.mean.flatten()
        return (rows @ self.matrix).view(images.shape)

    def pixels(self, numbers: Tensor) -> Tensor:
        """Images (..., H, W, C), 0..1, for numbers that came out; of one brightness and contrast."""
        rows = numbers.flatten(-3) @ self._inverse + self.mean.flatten()
        return (0.5 + 0.25 * rows * rows.shape[-1] ** 0.5 / CONTRAST).view(numbers.shape)

    @functools.cached_property
    def _inverse(self) -> Tensor:
        return torch.linalg.inv(self.matrix)


def _whitening(images: Tensor, chosen: np.ndarray, shape: torch.Size) -> PixelStatistics:
    """See `measured`. In float64, as some variances are tiny: 20 s on a core for CIFAR."""
    size = shape.numel()
    total = torch.zeros(size, dtype=torch.float64)
    products = torch.zeros(size, size, dtype=torch.float64)
    for part in _parts(images, chosen):
        rows = contrast_normalised(part.double())
        total += rows.sum(0)
        products.addmm_(rows.T, rows)
    mean = total / len(chosen)
    covariance = products / len(chosen) - torch.outer(mean, mean)
    covariance.diagonal().add_(FILTER_BIAS)
    variances, directions = torch.linalg.eigh(covariance)
    matrix = (directions * variances.rsqrt()) @ directions.T
    return PixelStatistics("zca", mean.float().view(shape), matrix=matrix.float())


def _parts(images: Tensor, chosen: np.ndarray) -> Iterator[Tensor]:
    """The chosen images, a few at a time."""
    for part in torch.from_numpy(chosen).split(2000):
        yield images.index_select(0, part)
