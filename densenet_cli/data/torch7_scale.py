"""Torch7's bicubic scaling of images, which has no antialiasing: image.scale(..., "bicubic").

torch/image, generic/image.c, scaleCubic: corners are aligned, the curve through four pixels is that of
Catmull and Rom, and pixels beyond an edge continue the last two on a straight line. There the result is
not rounded, and may lie a little outside of 0..255.
"""

from __future__ import annotations

import torch
from torch import Tensor


def scaled(image: Tensor, size: tuple[int, int], box: tuple[int, int, int, int]) -> Tensor:
    """A part of a scaled image; the other parts are not computed.

    Args:
        image: (H, W, C) uint8.
        size: height and width of the whole scaled image.
        box: left, upper, right and lower edge of the part, in pixels of the scaled image.

    Returns:
        (lower - upper, right - left, C) uint8, rounded and clipped.
    """
    left, upper, right, lower = box
    columns, across = _taps(image.shape[1], size[1], left, right)
    rows, down = _taps(image.shape[0], size[0], upper, lower)
    first, last = int(rows.min()), int(rows.max()) + 1
    needed = image[first:last].float()
    wide = sum(needed[:, columns[:, tap]] * across[:, tap, None] for tap in range(4))
    assert isinstance(wide, Tensor)
    tall = sum(wide[rows[:, tap] - first] * down[:, tap, None, None] for tap in range(4))
    assert isinstance(tall, Tensor)
    return tall.round().clamp(0, 255).to(torch.uint8)


def _taps(length: int, scaled_length: int, begin: int, end: int) -> tuple[Tensor, Tensor]:
    """The four pixels, and their weights, of each of the pixels begin..end of a scaled line.

    Returns:
        Indices (end - begin, 4) int64, and weights (end - begin, 4) float32, whose sum is 1.
    """
    step = (length - 1) / max(1, scaled_length - 1)
    places = torch.arange(begin, end, dtype=torch.float64) * step
    second = places.long().clamp(max=max(0, length - 2))
    t = places - second
    weights = torch.stack(
        [
            -t / 2 + t**2 - t**3 / 2,
            1 - 5 / 2 * t**2 + 3 / 2 * t**3,
            t / 2 + 2 * t**2 - 3 / 2 * t**3,
            -(t**2) / 2 + t**3 / 2,
        ],
        dim=1,
    )
    before, after = (second == 0).double(), (second + 2 >= length).double()
    weights[:, 1] += weights[:, 0] * before * 2
    weights[:, 2] -= weights[:, 0] * before
    weights[:, 2] += weights[:, 3] * after * 2
    weights[:, 1] -= weights[:, 3] * after
    weights[:, 0] *= 1 - before
    weights[:, 3] *= 1 - after
    indices = second[:, None] + torch.arange(-1, 3)
    return indices.clamp(0, length - 1), weights.float()
