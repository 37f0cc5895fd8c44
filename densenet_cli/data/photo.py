"""Read one image as 8-bit RGB or grey levels, and crop it to a square.

An image is a file, the bytes of one, or pixels that are decoded already: see `picture`.

Grey levels (channels=1) are the luma of ITU-R BT.601, 0.299 red + 0.587 green + 0.114 blue.

A JPEG file that is shrunk to less than a quarter is decoded at 1/2, 1/4 or 1/8 of its size, but at no
less than twice the size needed. This is many times as fast; pixels differ by a few levels of 255.
"""

from __future__ import annotations

import functools
import io
import math
import os
import random
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import ExifTags, Image, PngImagePlugin, UnidentifiedImageError
from torch import Tensor

from densenet_cli.data import jpeg
from densenet_cli.data.picture import Picture
from densenet_cli.data.torch7_scale import scaled

warnings.filterwarnings("ignore", module=r"PIL\.")  # about harmless faults; serious ones are raised

MAX_PIXELS = 178_956_970  # Pillow's own default
CROP_FRACTION = 224 / 256  # for a crop of 224, the shorter side is resized to 256
Box = tuple[int, int, int, int]
"""Left, upper, right and lower edge, in pixels."""
Turn = Image.Transpose | None
"""The turn that makes an image upright; None if it is upright."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # EXIF's orientation -> turn; 5 and above swap width and height
TURNED_VIEWS: dict[Image.Transpose, Callable[[np.ndarray], np.ndarray]] = {
    Image.Transpose.FLIP_LEFT_RIGHT: np.fliplr,
    Image.Transpose.ROTATE_180: lambda pixels: np.rot90(pixels, 2),
    Image.Transpose.FLIP_TOP_BOTTOM: np.flipud,
    Image.Transpose.TRANSPOSE: lambda pixels: pixels.swapaxes(0, 1),
    Image.Transpose.ROTATE_270: lambda pixels: np.rot90(pixels, 3),
    Image.Transpose.TRANSVERSE: lambda pixels: np.rot90(pixels, 2).swapaxes(0, 1),
    Image.Transpose.ROTATE_90: np.rot90,
}  # turn -> the view of an array (H, W, 3) that shows it upright
# Formats that Pillow only recognises, or opens with other programs.
NOT_DECODED = ("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF")
SHRINKABLE = ("JPEG", "MPO")  # formats that can be decoded at a fraction of their size


class TooLarge(ValueError):
    """An image that exceeds the limit.

    Attributes:
        needed: the limit that it needs, in pixels; None if unknown.
    """

    def __init__(self, excess: str, needed: int | None = None) -> None:
        super().__init__(excess)
        self.needed = needed


def reason(error: Exception) -> str:
    """Why an image cannot be read, in one line without the file's name."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def limit_pixels(most: int | None) -> None:
    """Let this process refuse larger images from now on: a small file can unpack to fill its memory.

    Args:
        most: pixels of an image, and bytes of all texts in a PNG file; None: no limit.
    """
    # Pillow raises an error at twice this number
    Image.MAX_IMAGE_PIXELS = None if most is None else most / 2  # type: ignore[assignment]
    PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = (
        sys.maxsize if most is None else most
    )


@functools.cache
def formats() -> tuple[str, ...]:
    """The formats that are tried on a file: all that Pillow decodes by itself."""
    Image.init()
    names = [name for name in Image.ID if name not in NOT_DECODED]
    return tuple(sorted(names, key=lambda name: name != "JPEG"))  # the most frequent one first


@functools.cache
def endings() -> frozenset[str]:
    """The endings of image files, in lower case: ".jpg", ".png", ..."""
    known = {*formats(), "MPO"}  # Pillow opens MPO as JPEG
    return frozenset(ending for ending, name in Image.registered_extensions().items() if name in known)


def read_rgb(picture: Picture) -> Tensor:
    """The image as people see it: upright (EXIF), in RGB, (H, W, 3) uint8.

    Transparent parts become white, since the colour stored for them is arbitrary. Grey of more than 8
    bits is scaled from 0..65535, not clipped. Of several frames the first is read.

    Raises:
        TooLarge: if it exceeds the limit of `limit_pixels`.
        Exception: of many types, if the file is broken or has no RGB form.
    """
    with _opened(picture) as (file, turn):
        return _tensor(_decoded(file, turn)[0])


def centre_crop(
    picture: Picture,
    size: int,
    fraction: float = CROP_FRACTION,
    channels: int = 3,
    antialias: bool = True,
) -> Tensor:
    """The centre of an image: shorter side resized to size / fraction, then cropped to size x size.

    Both are done in one step. The result is the same up to rounding, and a long, narrow image needs no
    huge intermediate one.

    Args:
        picture: the image.
        size: height and width of the crop, in pixels.
        fraction: of the shorter side that is kept, at most 1.
        channels: 3 or 1.
        antialias: whether pixels that are left out count too, as in Pillow and PyTorch; without, the
            image is read whole and scaled as by Torch7, see torch7_scale.

    Returns and Raises: as random_crop.
    """
    crops = _crops if antialias else _crops_of_torch7
    return crops(picture, size, fraction, [(0.5, 0.5)], channels)[0]


def ten_crops(
    picture: Picture,
    size: int,
    fraction: float = CROP_FRACTION,
    channels: int = 3,
    antialias: bool = True,
) -> Tensor:
    """The centre and four corners of an image, and these mirrored: (10, size, size, channels) uint8.

    As in Krizhevsky et al. 2012, sec. 4.1, but of the whole image, as in fb.resnet.torch. Args and
    Raises: as centre_crop.
    """
    places = [(0.5, 0.5), (0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)]
    made = (_crops if antialias else _crops_of_torch7)(picture, size, fraction, places, channels)
    crops = torch.stack(made)
    return torch.cat([crops, crops.flip(2)])


def random_crop(
    picture: Picture, size: int, chance: random.Random, channels: int = 3, antialias: bool = True
) -> Tensor:
    """A random part of an image, see `random_box`, resized (bicubic).

    Args: as centre_crop; `chance` decides which part.

    Returns:
        (size, size, channels) uint8.

    Raises:
        Exception: as read_rgb.
    """
    if isinstance(picture, (str, Path, bytes)):
        with _opened(picture) as (file, turn):
            box = random_box(*_upright_size(file, turn), chance)
            shrinking = min(box[2] - box[0], box[3] - box[1]) / size if antialias else 1.0
            part = _part(file, turn, box, shrinking, channels)
    else:
        left, top, right, bottom = random_box(picture.width, picture.height, chance)
        pixels = picture.rows(top, bottom)[:, left:right]
        if pixels.ndim == channels == 3:
            part = torch.from_numpy(np.array(pixels))
        else:
            part = _tensor(_in_mode(Image.fromarray(pixels), channels))
    if not antialias:
        return scaled(part, (size, size), (0, 0, size, size))
    planes = part[None].permute(0, 3, 1, 2)
    resized = F.interpolate(planes, (size, size), mode="bicubic", antialias=True)
    return resized[0].permute(1, 2, 0)


def random_box(width: int, height: int, chance: random.Random) -> Box:
    """A random part with 8-100 % of the image's area and an aspect ratio of 3/4 to 4/3.

    After ten parts that do not fit, it is the square in the centre. Szegedy et al. 2015, as in
    fb.resnet.torch: the ratio is uniform, and width and height are swapped half of the time.
    """
    for _ in range(10):
        area = chance.uniform(0.08, 1) * width * height
        ratio = chance.uniform(3 / 4, 4 / 3)
        sides = [max(1, round((area * ratio) ** 0.5)), max(1, round((area / ratio) ** 0.5))]
        wide, tall = sides if chance.random() < 0.5 else reversed(sides)
        if wide <= width and tall <= height:
            left = int(chance.random() * (width - wide + 1))
            top = int(chance.random() * (height - tall + 1))
            return left, top, left + wide, top + tall
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def _crops(
    picture: Picture,
    size: int,
    fraction: float,
    places: list[tuple[float, float]],
    channels: int,
) -> list[Tensor]:
    """Resized squares of an image: place (0, 0) is the upper left corner, (1, 1) the lower right."""
    with _opened(picture) as (file, turn):
        width, height = _upright_size(file, turn)
        side = min(width, height) * fraction
        image, reduction = _decoded(file, turn, side / size, channels)
    crops = []
    for across, down in places:
        left, top = across * (width - side), down * (height - side)
        box = np.array([left, top, left + side, top + side]) / reduction
        crops.append(_tensor(image.resize((size, size), Image.Resampling.BICUBIC, box=tuple(box))))
    return crops


def _crops_of_torch7(
    picture: Picture,
    size: int,
    fraction: float,
    places: list[tuple[float, float]],
    channels: int,
) -> list[Tensor]:
    """As `_crops`, by Scale and CenterCrop or TenCrop of fb.resnet.torch, datasets/transforms.lua."""
    with _opened(picture) as (file, turn):
        image = _tensor(_decoded(file, turn, channels=channels)[0])
    height, width = image.shape[:2]
    side, shorter = round(size / fraction), min(height, width)
    tall, wide = (side if length == shorter else length * side // shorter for length in (height, width))
    crops = []
    for across, down in places:
        left, top = math.ceil(across * (wide - size)), math.ceil(down * (tall - size))
        crops.append(scaled(image, (tall, wide), (left, top, left + size, top + size)))
    return crops


@contextmanager
def _opened(picture: Picture) -> Iterator[tuple[Image.Image, Turn]]:
    """An open image, and its turn. Images in SHRINKABLE formats are not decoded yet."""
    if not isinstance(picture, (str, Path, bytes)):
        yield Image.fromarray(picture.rows(0, picture.height)), None  # has nothing to decode
        return
    try:
        content = io.BytesIO(picture) if isinstance(picture, bytes) else picture
        with Image.open(content, formats=formats()) as file:
            if file.format not in SHRINKABLE:
                file.load()  # turns a TIFF, and may change the size that its header states
            yield file, None if file.format == "TIFF" else _turn(file)
    except UnidentifiedImageError as error:
        size = len(picture) if isinstance(picture, bytes) else os.stat(picture).st_size
        what = "it has no image in a known format" if size else "it is empty"
        raise ValueError(what) from error
    except Image.DecompressionBombError as error:
        pixels = max(map(int, re.findall(r"\d+", str(error))))  # its message has them and the limit
        raise TooLarge(f"has {pixels:,} pixels", pixels) from error
    except ValueError as error:
        if "MAX_TEXT" not in str(error):
            raise
        most = PngImagePlugin.MAX_TEXT_MEMORY
        raise TooLarge(f"has texts of more than {most:,} bytes") from error


def _turn(file: Image.Image) -> Turn:
    """The turn of an image; None if its EXIF data are wrong, as image viewers do."""
    try:
        orientation = file.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # damaged EXIF data can raise any error, and the image is usable without them
        return None
    return TURNS.get(orientation) if type(orientation) is int else None


def _decoded(
    file: Image.Image, turn: Turn, shrinking: float = 1.0, channels: int = 3
) -> tuple[Image.Image, int]:
    """The upright image of an open file, perhaps decoded at a smaller size, and the factor of that."""
    width = file.width
    if shrinking >= 4:
        factor = int(shrinking / 2)
        file.draft(None, (width // factor, file.height // factor))  # JPEG: at least this size
    file.load()
    reduction = round(width / file.width)
    return _in_mode(file if turn is None else file.transpose(turn), channels), reduction


def _part(file: Image.Image, turn: Turn, box: Box, shrinking: float, channels: int) -> Tensor:
    """A part of the upright image of an open file, perhaps decoded at a smaller size.

    Args:
        box: its edges in the image of full size.
        others: as _decoded.
    """
    if channels == 3 and shrinking < 4 and (pixels := jpeg.decoded(file)) is not None:
        left, top, right, bottom = box
        upright = pixels if turn is None else TURNED_VIEWS[turn](pixels)
        return torch.from_numpy(np.ascontiguousarray(upright[top:bottom, left:right]))
    image, reduction = _decoded(file, turn, shrinking, channels)
    left, top, right, bottom = (round(edge / reduction) for edge in box)
    return _tensor(image.crop((left, top, min(right, image.width), min(bottom, image.height))))


def _upright_size(file: Image.Image, turn: Turn) -> tuple[int, int]:
    """Width and height of the upright image."""
    on_a_side = turn in [TURNS[orientation] for orientation in (5, 6, 7, 8)]
    return (file.height, file.width) if on_a_side else file.size


def _in_mode(image: Image.Image, channels: int) -> Image.Image:
    """In mode RGB or L, of 3 channels or 1; the image itself if it is in that mode already."""
    mode = "RGB" if channels == 3 else "L"
    if image.mode.startswith("I"):
        return _eight_bits(image).convert(mode)
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers, whose range is not known")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image if image.mode == mode else image.convert(mode)


def _eight_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image).clip(0, 65535) / 257
    return Image.fromarray(values.round().astype(np.uint8))


def _tensor(image: Image.Image) -> Tensor:
    """(H, W, 3) or, of an image in mode L, (H, W, 1) uint8."""
    pixels = torch.from_numpy(np.array(image))
    return pixels if pixels.ndim == 3 else pixels[..., None]


def upright(picture: Picture, shorter: int | None = None) -> tuple[Image.Image, int, bool]:
    """A whole image as people see it, in RGB, or in grey levels if it has no colours.

    Args:
        picture: the image.
        shorter: in pixels; a longer shorter side is resized (bicubic) to this. None: it stays.

    Returns:
        The image; the number of pixels that it had; whether it was not resized.

    Raises:
        Exception: as read_rgb.
    """
    with _opened(picture) as (file, turn):
        size = np.array(_upright_size(file, turn))
        stays = shorter is None or size.min() <= shorter
        shrinking = 1.0 if stays or shorter is None else size.min() / shorter
        channels = 1 if file.mode in ("1", "L") or file.mode.startswith("I") else 3
        image, _ = _decoded(file, turn, shrinking, channels)
    if not stays:
        width, height = np.maximum(1, (size / shrinking).round().astype(int)).tolist()
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    return image, int(size.prod()), stays
