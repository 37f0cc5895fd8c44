"""Occlusion: the effect of hiding each part of an image (Zeiler and Fergus, arXiv:1311.2901)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from densenet_cli.analysis.forward import device_of, mode
from densenet_cli.options import OptionError, whole_number


def occlusion(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    patch: int | None = None,
    probabilities: Callable[[Tensor], Tensor] = partial(torch.softmax, dim=1),  # noqa: B008 -- constant
) -> Tensor:
    """How much the probability of a class drops when a square hides a pixel (section 4.2).

    The square is zero, which after normalisation is the mean colour (black if the images are only
    scaled). It moves by half its side and stays within the image, so that the last squares touch the
    far edges. The value of a pixel is the mean over all squares that hide it: usually four, fewer near
    the edges, one in a corner.

    Args:
        network: images -> logits; used in evaluation mode.
        images: (N, 3, H, W), normalised.
        labels: (N,) the class to explain in each image.
        patch: side of the square in pixels; by default a quarter of the image's shorter side.
        probabilities: logits -> probabilities of the classes, both (N, classes).

    Returns:
        (N, H, W) float32 on the CPU, -1..1; below zero where hiding the pixel raises the probability.

    Raises:
        OptionError: the square is larger than the image.
    """
    height, width = images.shape[2:]
    side = _side(patch, min(height, width))
    drops, squares = torch.zeros(len(images), height, width), torch.zeros(height, width)
    images = images.to(device_of(network))
    with mode(network, training=False), torch.no_grad():
        whole = _probability(probabilities(network(images).float()), labels)
        for top, left in itertools.product(_places(height, side), _places(width, side)):
            rows, columns = slice(top, top + side), slice(left, left + side)
            hidden = images.clone()
            hidden[:, :, rows, columns] = 0
            drop = whole - _probability(probabilities(network(hidden).float()), labels)
            drops[:, rows, columns] += drop[:, None, None]
            squares[rows, columns] += 1
    return drops / squares


def _side(patch: int | None, most: int) -> int:
    if patch is None:
        return max(1, most // 4)
    if whole_number("--patch", patch, max(1, most // 4)) > most:
        raise OptionError("--patch", patch, f"the images have {most} pixels a side", most // 4)
    return patch


def _places(length: int, side: int) -> list[int]:
    """The first pixels of the squares along one side of the image."""
    return [*range(0, length - side, max(1, side // 2)), length - side]


def _probability(probabilities: Tensor, labels: Tensor) -> Tensor:
    return probabilities.cpu().gather(1, labels.cpu()[:, None])[:, 0]
