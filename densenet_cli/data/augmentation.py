"""Random augmentation of whole batches, on the device that holds the batch.

Shapes: images (n, H, W, C), of C = 3 colours or 1 grey level; draws (n,) int64, 63 random bits for each
image. The draw alone decides how its image is changed. No function waits for the device, except those
"one by one", for the CPU: each image stays in the cache of a core from the first operation to the last.

What is done to the colours of a grey image is what this, done to the colours, does to their grey level:
the luma of an augmented image is the augmented luma.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from densenet_cli.data.colour_statistics import LUMA, Statistics

# Eigenvalues and eigenvectors (columns) of the RGB colours, 0..1, of ImageNet's pixels: Krizhevsky et
# al. 2012, sec. 4.1, with the numbers of fb.resnet.torch.
COLOUR_VALUES = (0.2175, 0.0188, 0.0045)
COLOUR_VECTORS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)


@dataclass(frozen=True)
class Scale:
    """The constants that normalise bytes: (images / 255 - mean) / std, on one device.

    Attributes:
        factor, offset: number = byte x factor + offset, for a whole row of W pixels, (W C,) float32:
            loops over three channels would be slow. With a mean image the offset is (H, W C).
        mean, std: of each channel, (C,) float32 on a scale of 0..1. A mean image is (H, W, C).
    """

    factor: Tensor
    offset: Tensor
    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, statistics: Statistics, width: int, device: torch.device) -> Scale:
        """For images of this width, in pixels."""
        mean = torch.tensor(statistics["mean"], device=device)
        std = torch.tensor(statistics["std"], device=device)
        return cls((1 / (255 * std)).repeat(width), (-mean / std).repeat(width), mean, std)

    @classmethod
    def of_pixels(cls, mean: Tensor, std: float) -> Scale:
        """For a mean image (H, W, C) float32 and a standard deviation of all numbers."""
        every = torch.full(mean.shape[2:], std, device=mean.device)
        return cls((1 / (255 * every)).repeat(mean.shape[1]), (-mean / every).flatten(1), mean, every)

    def normalised(self, images: Tensor, padding: int = 0) -> Tensor:
        """Normalise, and add a border of zeros, which are the mean.

        Args:
            images: (n, H, W, C) uint8 0..255, of the size that the constants are for.
            padding: width of the border, in pixels.

        Returns:
            (n, H + 2 padding, W + 2 padding, C) float32.
        """
        n, height, width, channels = images.shape
        padded = self.std.new_zeros(n, height + 2 * padding, channels * (width + 2 * padding))
        inside = padded.narrow(1, padding, height).narrow(2, channels * padding, channels * width)
        torch.addcmul(self.offset, images.flatten(2).float(), self.factor, out=inside)
        return padded.unflatten(2, (-1, channels))

    def pixels(self, numbers: Tensor) -> Tensor:
        """The inverse: images (..., H, W, C), 0..1, for numbers that came out."""
        return numbers * self.std + self.mean


def framed(images: Tensor, padding: int, border: str) -> Tensor:
    """Images with a border.

    Args:
        images: (n, H, W, C) float32.
        padding: width of the border, in pixels.
        border: "zeros"; or "reflect" for images, larger than the border, that are mirrored at their
            outermost pixels, which are not repeated.

    Returns:
        (n, H + 2 padding, W + 2 padding, C).
    """
    mode = "constant" if border == "zeros" else border
    planes = F.pad(images.permute(0, 3, 1, 2), [padding] * 4, mode=mode)
    return planes.permute(0, 2, 3, 1).contiguous()


def flip_half(images: Tensor, draws: Tensor) -> Tensor:
    """Mirror half of the images left to right: those whose draw has bit 0 set."""
    rows, mirrored = images.flatten(2), images.flip(2).flatten(2)
    chosen = (draws & 1 > 0).view(-1, 1, 1)
    if rows.dtype == torch.uint8 and rows.shape[2] % 8 == 0:  # torch.where is slow on bytes
        rows, mirrored = rows.view(torch.int64), mirrored.view(torch.int64)
    return torch.where(chosen, mirrored, rows).view(images.dtype).view(images.shape)


def crop(images: Tensor, draws: Tensor, padding: int) -> Tensor:
    """Crop padded images to their original size, at a random place.

    All (2 padding + 1)^2 places are equally likely; bits 1 to 40 of a draw choose one.

    Args:
        images: (n, H + 2 padding, W + 2 padding, C).
        draws: (n,).
        padding: width of the border, in pixels.

    Returns:
        (n, H, W, C).
    """
    _, tall, wide, channels = images.shape
    height, width = tall - 2 * padding, wide - 2 * padding
    y = _bits(draws, 1, 20) % (2 * padding + 1)
    x = _bits(draws, 21, 20) % (2 * padding + 1)
    first = torch.arange(0, len(draws) * tall * wide, tall * wide, device=draws.device)
    starts = (first + y * wide + x)[:, None]  # upper left corners, in pixels of the whole batch
    starts = starts + torch.arange(0, height * wide, wide, device=draws.device)
    rows = images.flatten().unfold(0, channels * width, channels)  # a view: a row starts at each pixel
    return rows.index_select(0, starts.flatten()).view(-1, height, width, channels)


def affine(images: Tensor, factors: Tensor, offsets: Tensor) -> Tensor:
    """Multiply each pixel, a row of colours, by its image's matrix and add its image's offset.

    Args:
        images: (n, H, W, C) float32.
        factors: (n, C, C).
        offsets: (n, C).
    """
    result = torch.bmm(images.flatten(1, 2), factors).view_as(images)
    result.flatten(2).add_(offsets.repeat(1, images.shape[2])[:, None])
    return result


def affine_one_by_one(
    images: Tensor, draws: Tensor, factors: Tensor, share: Tensor, offsets: Tensor, result: Tensor
) -> Tensor:
    """As affine of flip_half, with `offsets` + `share` x mean_grey, up to rounding.

    Three times as fast on a core. The numbers do not depend on the number of threads.

    Args:
        images: (n, H, W, C) uint8.
        draws: (n,), of flip_half.
        factors: (n, C, C), of affine.
        share, offsets: (n, C).
        result: (n, H, W, C) float32, contiguous, which gets the numbers and is returned.
    """
    _, height, width, channels = images.shape
    together = next(pixels for pixels in (4, 2, 1) if height * width % pixels == 0)
    columns = together * channels  # products of three columns are slow; products with 0 change no sum
    blocks = factors.new_zeros(len(images), together, channels, together, channels)
    blocks.diagonal(dim1=1, dim2=3).copy_(factors[..., None])
    constants = blocks.view(-1, columns, columns), offsets.repeat(1, width), share.repeat(1, width)
    views = result.view(len(images), -1, columns), result.flatten(2)
    weights = LUMA if channels == 3 else (1.0,)
    each = zip(_one_by_one(images, draws), *views, *constants, strict=True)
    for numbers, found, rows, block, offset, of_grey in each:
        sums = numbers.sum(0).view(-1, channels).sum(0).tolist()  # exact up to 256 x 256 pixels
        grey = sum(map(operator.mul, weights, sums)) / (height * width)
        torch.mm(numbers.view(-1, columns), block, out=found)
        rows.add_(torch.add(offset, of_grey, alpha=grey))
    return result


def normalised_one_by_one(images: Tensor, draws: Tensor | None, scale: Scale, result: Tensor) -> Tensor:
    """As Scale.normalised, of flip_half if there are draws: the same numbers.

    Args: as affine_one_by_one.
    """
    for numbers, found in zip(_one_by_one(images, draws), result.flatten(2), strict=True):
        torch.addcmul(scale.offset, numbers, scale.factor, out=found)
    return result


def _one_by_one(images: Tensor, draws: Tensor | None) -> Iterator[Tensor]:
    """Each image as its rows, (H, W C) float32, mirrored as by flip_half; all in the same memory."""
    numbers = torch.empty(images.shape[1:])
    rows = numbers.flatten(1)
    mirrored = [0] * len(images) if draws is None else (draws & 1).tolist()
    for image, is_mirrored in zip(images, mirrored, strict=True):
        numbers.copy_(image.flip(1) if is_mirrored else image)
        yield rows


def colour_jitter(draws: Tensor, channels: int = 3, strength: float = 0.4) -> tuple[Tensor, Tensor]:
    """Brightness, contrast and saturation, each times 1 - 0.4 to 1 + 0.4. Grey has no saturation.

    Nothing is clipped, as in fb.resnet.torch, so their order does not matter.

    Args:
        draws: (n,) int64.
        channels: C, 3 or 1.
        strength: the largest change of the three.

    Returns:
        Factors (n, C, C) and a share (n, 1): a pixel, a row of colours, becomes the pixel times the
        factors plus the share of the mean grey level of its image; see `mean_grey`, `affine`.
    """
    mixed = draws * -7046029254386353131  # a hash: other functions use the bits themselves
    mixed = (mixed ^ mixed >> 32) * -4658895280553007687
    fields = torch.stack([_bits(mixed, first, 20) for first in (1, 21, 41)], dim=1)
    change = 1 + strength * (2 * (fields.float() + 0.5) / 2**20 - 1)
    brightness, contrast, saturation = change.view(-1, 3, 1).unbind(1)  # (n, 1) each
    grey = _grey(draws.device, channels)
    own = saturation[..., None] * torch.eye(channels, device=draws.device)
    of_grey = (1 - saturation)[..., None] * grey[:, None]
    factors = (brightness * contrast)[..., None] * (own + of_grey)
    return factors, brightness * (1 - contrast)


def mean_grey(images: Tensor) -> Tensor:
    """The mean grey level of each image, (n, 1), of images (n, H, W, C) float32."""
    channels = images.shape[3]
    mean = images.flatten(2).mean(1).unflatten(1, (-1, channels)).mean(1)  # whole rows first
    return (mean @ _grey(images.device, channels))[:, None]


def lighting(draws: Tensor, channels: int = 3, strength: float = 0.1) -> Tensor:
    """Random shift of the colours of each image along ImageNet's principal components.

    Krizhevsky et al. 2012, sec. 4.1: each component times its eigenvalue times a normal number with
    standard deviation `strength`. Bits 1 to 60 of a draw choose.

    Returns:
        (n, channels), to add to pixels of 0..1.
    """
    fields = torch.stack([_bits(draws, first, 20) for first in (1, 21, 41)], dim=1)
    uniform = (fields.float() + 0.5) / 2**20
    normal = torch.erfinv(2 * uniform - 1) * math.sqrt(2)
    return strength * normal @ _principal_components(draws.device, channels).T


@functools.cache
def _principal_components(device: torch.device, channels: int) -> Tensor:
    """Eigenvectors times eigenvalues, (channels, 3), copied to a device once."""
    components = torch.tensor(COLOUR_VECTORS) * torch.tensor(COLOUR_VALUES)
    return (components if channels == 3 else torch.tensor([LUMA]) @ components).to(device)


@functools.cache
def _grey(device: torch.device, channels: int) -> Tensor:
    """The weights of the channels in a pixel's brightness, (channels,), copied to a device once."""
    return torch.tensor(LUMA if channels == 3 else [1.0], device=device)


def _bits(draws: Tensor, first: int, count: int) -> Tensor:
    """Bits `first` to `first + count - 1` of each draw, as a number."""
    return draws >> first & (1 << count) - 1
