"""One photo file: read as 8-bit RGB, cut to a square, changed at random."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

RESIZED, CROPPED = 256, 224  # the shorter side is resized to 256 where the crop is 224


def read_rgb(path: str | Path) -> Image.Image:
    """The picture as one sees it: upright (EXIF), in RGB with 8 bits a channel.

    Transparent parts are laid on white: the colour stored below them is arbitrary. Grey of more
    than 8 bits is scaled from 0..65535, not clipped. Of several frames the first is read.

    Raises:
        Exception: of many kinds, if the file is broken or of a kind that has no RGB form.
    """
    with Image.open(path) as image:
        image.load()
        picture = ImageOps.exif_transpose(image)
    if picture.mode.startswith("I"):
        return _eight_bits(picture).convert("RGB")
    if picture.mode == "F":
        raise ValueError("its pixels are floating-point numbers, whose range is not known")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")


def centre_crop(image: Image.Image, size: int) -> Image.Image:
    """The middle of the image: shorter side resized to size x 256/224, then cut to size x size.

    Done in one step, which gives the same picture but for rounding, and no huge image on the way
    if the photo is long and narrow.
    """
    side = min(image.size) * CROPPED / RESIZED
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    return image.resize((size, size), Image.Resampling.BICUBIC, box=box)


def random_crop(image: Image.Image, size: int, chance: random.Random) -> Image.Image:
    """A random part of 8-100 % of the area and of ratio 3/4 to 4/3, resized to size x size.

    After ten parts that do not fit, the centre of the image. Szegedy et al. 2015, as in
    fb.resnet.torch: the ratio is uniform, and width and height change places half the time.
    """
    for _ in range(10):
        area = chance.uniform(0.08, 1) * image.width * image.height
        ratio = chance.uniform(3 / 4, 4 / 3)
        sides = [max(1, round((area * ratio) ** 0.5)), max(1, round((area / ratio) ** 0.5))]
        width, height = sides if chance.random() < 0.5 else reversed(sides)
        if width <= image.width and height <= image.height:
            left = int(chance.random() * (image.width - width + 1))
            top = int(chance.random() * (image.height - height + 1))
            box = (left, top, left + width, top + height)
            return image.resize((size, size), Image.Resampling.BICUBIC, box=box)
    return ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)


def colour_jitter(image: Image.Image, chance: random.Random, strength: float = 0.4) -> Image.Image:
    """Brightness, contrast and saturation, in random order, each times 1 - 0.4 to 1 + 0.4."""
    enhancers = [ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color]
    for enhancer in sorted(enhancers, key=lambda _: chance.random()):
        image = enhancer(image).enhance(1 + chance.uniform(-strength, strength))
    return image


def _eight_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image).clip(0, 65535) / 257
    return Image.fromarray(values.round().astype(np.uint8))
