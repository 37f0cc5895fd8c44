"""Random changes of a whole batch at a time, on the device where the batch lies.

Shapes: images (n, 3, H, W); draws (n,) int64, 63 random bits for each image, which alone decide
what happens to it. Nothing here waits for the device.
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

# Eigenvalues and eigenvectors (columns) of the colours of ImageNet's pixels, 0..1, red green blue:
# Krizhevsky et al. 2012, sec. 4.1, in the numbers that fb.resnet.torch uses.
COLOUR_VALUES = (0.2175, 0.0188, 0.0045)
COLOUR_VECTORS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)


def normalised(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(images / 255 - mean) / std as float32.

    Args:
        images: uint8 0..255.
        mean, std: of each channel, (3,) float32 on a scale of 0..1.
    """
    scale = (1 / (255 * std)).view(3, 1, 1)
    return torch.addcmul((-mean / std).view(3, 1, 1), images.float(), scale)


def flip_half(images: Tensor, draws: Tensor) -> Tensor:
    """Mirror left and right in half of the images: those whose draw has bit 0 set."""
    mirror = (draws & 1).bool().view(-1, 1, 1, 1)
    return torch.where(mirror, images.flip(-1), images)


def shift(images: Tensor, draws: Tensor, padding: int) -> Tensor:
    """Pad with zeros on each side and cut out the original size at a random place.

    After normalising a zero is the mean colour. Each of the (2 padding + 1)^2 places is as likely
    as the others; bits 1 to 40 of a draw choose.
    """
    height, width = images.shape[-2:]
    padded = F.pad(images, [padding] * 4)
    places = padded.unfold(2, height, 1).unfold(3, width, 1)  # (n, 3, y, x, H, W), a view
    y = _bits(draws, 1, 20) % (2 * padding + 1)
    x = _bits(draws, 21, 20) % (2 * padding + 1)
    each = torch.arange(len(images), device=images.device)
    return places[each, :, y, x]


def lighting(draws: Tensor, strength: float = 0.1) -> Tensor:
    """Random change of light along ImageNet's main colours: (n, 3, 1, 1), to add to 0..1 images.

    Krizhevsky et al. 2012, sec. 4.1: each main colour times its variance times a normal number of
    standard deviation `strength`. Bits 1 to 60 of a draw choose.
    """
    fields = torch.stack([_bits(draws, first, 20) for first in (1, 21, 41)], dim=1)
    uniform = (fields.float() + 0.5) / 2**20
    normal = torch.erfinv(2 * uniform - 1) * math.sqrt(2)
    return (strength * normal @ _main_colours(draws.device).T).view(-1, 3, 1, 1)


@functools.cache
def _main_colours(device: torch.device) -> Tensor:
    """Eigenvectors times eigenvalues, (3, 3), copied to a device once."""
    return (torch.tensor(COLOUR_VECTORS) * torch.tensor(COLOUR_VALUES)).to(device)


def _bits(draws: Tensor, first: int, count: int) -> Tensor:
    """Bits `first` to `first + count - 1` of each draw, as a number."""
    return draws >> first & (1 << count) - 1
