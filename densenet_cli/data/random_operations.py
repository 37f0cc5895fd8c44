"""RandAugment: random operations on the colours and the geometry of each training image."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from densenet_cli.options import OptionError

OPERATIONS = 2  # for each image: N of the paper and default of torchvision
LARGEST = 30  # magnitude


class RandAugment:
    """Two operations, drawn from fourteen, on each image (Cubuk et al. 2020, arXiv:1909.13719, sec. 3).

    Operations, their ranges and the scale of the magnitude are those of torchvision's RandAugment with
    31 bins; timm's magnitudes 0 to 10 are a third of these. Areas that a shift or turn brings in are
    black. It computes with Pillow, which is two to four times as fast as torchvision's own tensors.

    Args:
        magnitude: 1 to 30, of all operations; 9 by default in torchvision.

    Raises:
        OptionError: for another magnitude, as that of `randaugment`.
    """

    def __init__(self, magnitude: int) -> None:
        is_whole = isinstance(magnitude, int) and not isinstance(magnitude, bool)
        if not (is_whole and 1 <= magnitude <= LARGEST):
            rule = f"must be a whole number from 1 to {LARGEST}, or null for none"
            raise OptionError("randaugment", magnitude, rule, 9)
        self.operations = list(_operations(magnitude / LARGEST).values())

    def __call__(self, image: Tensor, draw: int) -> Tensor:
        """Augment an image (H, W, C) uint8 as its draw decides; C is 3, or 1 for grey levels."""
        chance = random.Random(f"randaugment {draw}")  # unrelated to what else the draw decides
        picture = Image.fromarray(image.numpy() if image.shape[2] == 3 else image[..., 0].numpy())
        for _ in range(OPERATIONS):
            operation = self.operations[chance.randrange(len(self.operations))]
            picture = operation(picture, 1 if chance.random() < 0.5 else -1)
        return torch.from_numpy(np.array(picture)).view(image.shape)


def _operations(level: float) -> dict[str, Callable[[Image.Image, int], Image.Image]]:
    """The operations by torchvision's names: image, sign of the change (1 or -1) -> image.

    Args:
        level: 0 to 1, the magnitude.
    """
    from torchvision.transforms.v2 import functional as ops  # slow to import, and rarely needed

    def moved(image: Image.Image, **change: Any) -> Image.Image:
        still: dict[str, Any] = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}
        return ops.affine(image, **{**still, **change})

    def sheared(image: Image.Image, x: float, y: float) -> Image.Image:
        degrees = [math.degrees(math.atan(slope)) for slope in (x, y)]
        return moved(image, shear=degrees, center=[0, 0])

    def shift(side: int, sign: int) -> int:
        return int(sign * 150 / 331 * side * level)

    slope, change, bits = 0.3 * level, 0.9 * level, 8 - round(4 * level)
    return {
        "Identity": lambda image, sign: image,
        "ShearX": lambda image, sign: sheared(image, sign * slope, 0),
        "ShearY": lambda image, sign: sheared(image, 0, sign * slope),
        "TranslateX": lambda image, sign: moved(image, translate=[shift(image.width, sign), 0]),
        "TranslateY": lambda image, sign: moved(image, translate=[0, shift(image.height, sign)]),
        "Rotate": lambda image, sign: ops.rotate(image, sign * 30 * level),
        "Brightness": lambda image, sign: ops.adjust_brightness(image, 1 + sign * change),
        "Color": lambda image, sign: ops.adjust_saturation(image, 1 + sign * change),
        "Contrast": lambda image, sign: ops.adjust_contrast(image, 1 + sign * change),
        "Sharpness": lambda image, sign: ops.adjust_sharpness(image, 1 + sign * change),
        "Posterize": lambda image, sign: ops.posterize(image, bits),
        "Solarize": lambda image, sign: ops.solarize(image, 255 * (1 - level)),
        "AutoContrast": lambda image, sign: ops.autocontrast(image),
        "Equalize": lambda image, sign: ops.equalize(image),
    }
