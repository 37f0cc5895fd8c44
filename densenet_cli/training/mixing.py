"""Mixup and CutMix: training images are mixed in pairs, and so are their labels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from densenet_cli.options import number
from densenet_cli.training.losses import shares_of_classes

STREAM = 0x6D6978  # keeps these random numbers apart from others that are drawn for the same batch


class Mixing:
    """Mixes the images of a batch in pairs.

    Mixup (Zhang et al. 2018, arXiv:1710.09412): share x image + (1 - share) x the other image, in each
    pixel. CutMix (Yun et al. 2019, arXiv:1905.04899): a rectangle is replaced by that of the other
    image, and the share is that of the area which is left. Labels are mixed by the same share. It is
    drawn from Beta(alpha, alpha), once for each batch, as by default in torchvision and timm. With both
    methods on, each batch draws one of them with equal chances, as there.

    Of n images in a process, image i is mixed with image i + n/2, and the first ones with the last
    half. The order of images is random already. So several processes mix the pairs that one process
    would, if n is even.

    Args:
        classes: their number.
        mixup, cutmix: alpha of each, 0 (off) or more.

    Raises:
        OptionError: for mixup or cutmix.
    """

    def __init__(self, classes: int, mixup: float, cutmix: float) -> None:
        self.classes = classes
        self.mixup = number("mixup", mixup, example=0.2, at_least=0)
        self.cutmix = number("cutmix", cutmix, example=1.0, at_least=0)

    def draw(self, numbers: Sequence[int], device: torch.device) -> Tensor:
        """How to mix a batch: (4,) float32 on the device of the images.

        They are the share of each pixel outside the rectangle; the rectangle's centre across and down,
        and half of its sides, as parts of the image's sides. Mixup has no rectangle.

        Args:
            numbers: all random numbers depend on them only; all processes must give the same.
            device: that of the images.
        """
        chance = np.random.default_rng([*numbers, STREAM])
        is_cut = chance.random() < (0.5 if self.mixup and self.cutmix else bool(self.cutmix))
        alpha = self.cutmix if is_cut else self.mixup
        share = chance.beta(alpha, alpha) if alpha else 1.0
        across, down = chance.random(2)
        half = 0.5 * math.sqrt(1 - share)
        drawn = torch.tensor([1, across, down, half] if is_cut else [share, 0, 0, 0]).float()
        if device.type == "cuda":
            drawn = drawn.pin_memory()  # else the host would wait for the device
        return drawn.to(device, non_blocking=True)

    def __call__(self, images: Tensor, labels: Tensor, draw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mix a batch as `draw` says, without waiting for its device.

        Args:
            images: (n, C, H, W) float32.
            labels: (n,) int64, or (n, classes) float32.
            draw: see `draw`.

        Returns:
            The mixed images; their labels (n, classes) float32; and for each image the labels, as they
            were given, of the one of its pair that has the larger share.
        """
        height, width = images.shape[2:]
        outside, across, down, half = draw.unbind()
        left, right = _edges(across, half, width)
        top, bottom = _edges(down, half, height)
        columns = torch.arange(width, device=draw.device)
        rows = torch.arange(height, device=draw.device)[:, None]
        is_inside = (columns >= left) & (columns < right) & (rows >= top) & (rows < bottom)
        weights = outside * ~is_inside
        share = outside * (1 - (right - left) * (bottom - top) / (height * width))
        mixed = torch.lerp(_others(images), images, weights)
        targets = shares_of_classes(labels, self.classes)
        larger = torch.where(share >= 0.5, labels, _others(labels))
        return mixed, torch.lerp(_others(targets), targets, share), larger


def _edges(centre: Tensor, half: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """First and last + 1 pixel of a rectangle along a side of an image; the part outside is cut off."""
    middle, reach = (centre * length).floor(), (half * length).floor()
    return (middle - reach).clamp(min=0), (middle + reach).clamp(max=length)


def _others(batch: Tensor) -> Tensor:
    """The images with which those of a batch are mixed, or the labels of these."""
    half = len(batch) // 2
    return torch.cat([batch[half:], batch[:half]])  # in the memory format of the batch, unlike roll
