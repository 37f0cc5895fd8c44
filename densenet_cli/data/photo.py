"""One photo file: read as 8-bit RGB, cut to a square.

JPEG files whose cut is less than a fourth of the size cut out are decoded at 1/2, 1/4 or 1/8 of their
size, never below twice the size of the cut: some levels of difference in 255, and many times as fast.
"""

from __future__ import annotations

import functools
import os
import random
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import ExifTags, Image, PngImagePlugin, UnidentifiedImageError
from torch import Tensor

warnings.filterwarnings("ignore", module=r"PIL\.")  # of harmless faults; others are raised

MAX_PIXELS = 178_956_970  # as many as Pillow takes if it is told nothing
CROP_FRACTION = 224 / 256  # the shorter side is resized to 256 where the crop is 224
Box = tuple[int, int, int, int]
"""Left, upper, right and lower edge, in pixels."""
Turn = Image.Transpose | None
"""What makes a picture upright; None if it is so already."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # EXIF's orientation -> turn; 5 and above lie on a side
# Formats that Pillow knows by name only, or leaves to other programs.
NOT_DECODED = ("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF")
SHRINKABLE = ("JPEG", "MPO")  # formats that can be decoded at a part of their size


class TooLarge(ValueError):
    """A picture that passes the limit.

    Attributes:
        needed: the number of pixels that would have to be allowed; None: not known.
    """

    def __init__(self, excess: str, needed: int | None = None) -> None:
        super().__init__(excess)
        self.needed = needed


def reason(error: Exception) -> str:
    """Why a picture cannot be read, in one line that does not name the file."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def limit_pixels(most: int | None) -> None:
    """Have this process refuse larger pictures from now on: few bytes may unpack to fill its memory.

    Args:
        most: pixels of a picture, and bytes of all texts in a PNG file; None: no limit.
    """
    # Pillow raises its error at twice the number
    Image.MAX_IMAGE_PIXELS = None if most is None else most / 2  # type: ignore[assignment]
    PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = (
        sys.maxsize if most is None else most
    )


@functools.cache
def formats() -> tuple[str, ...]:
    """The formats that can be read: all that Pillow decodes here. Nothing else is tried on a file."""
    Image.init()
    return tuple(name for name in Image.ID if name not in NOT_DECODED)


@functools.cache
def endings() -> frozenset[str]:
    """The endings of the names of image files, in small letters: ".jpg", ".png", ..."""
    known = {*formats(), "MPO"}  # which Pillow opens as JPEG
    return frozenset(ending for ending, name in Image.registered_extensions().items() if name in known)


def read_rgb(path: str | Path) -> Tensor:
    """The picture as one sees it: upright (EXIF), in RGB: (H, W, 3) uint8.

    Transparent parts are laid on white: the colour stored below them is arbitrary. Grey of more
    than 8 bits is scaled from 0..65535, not clipped. Of several frames the first is read.

    Raises:
        TooLarge: if it passes the limit of `limit_pixels`.
        Exception: of many kinds, if the file is broken or of a kind that has no RGB form.
    """
    with _opened(path) as (file, turn):
        return _tensor(_decoded(file, turn)[0])


def centre_crop(path: str | Path, size: int, fraction: float = CROP_FRACTION) -> Tensor:
    """The middle of a picture: shorter side resized to size / fraction, then cut to size x size.

    Done in one step, which gives the same picture but for rounding, and no huge image on the way
    if the photo is long and narrow.

    Args:
        path: of the picture.
        size: height and width of what is returned, in pixels.
        fraction: of the shorter side that is kept, at most 1.

    Returns and Raises: as random_crop.
    """
    return _crops(path, size, fraction, [(0.5, 0.5)])[0]


def ten_crops(path: str | Path, size: int, fraction: float = CROP_FRACTION) -> Tensor:
    """The middle and the four corners of a picture, and the same mirrored: (10, size, size, 3) uint8.

    As Krizhevsky et al. 2012, sec. 4.1, but of the whole picture, as in fb.resnet.torch. Arguments and
    errors: as centre_crop.
    """
    corners = [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)]
    crops = torch.stack(_crops(path, size, fraction, [(0.5, 0.5), *corners]))
    return torch.cat([crops, crops.flip(2)])


def random_crop(path: str | Path, size: int, chance: random.Random) -> Tensor:
    """A random part of a picture, see `random_box`, resized (bicubic).

    Returns:
        (size, size, 3) uint8.

    Raises:
        Exception: as read_rgb.
    """
    with _opened(path) as (file, turn):
        left, top, right, bottom = random_box(*_upright_size(file, turn), chance)
        image, reduction = _decoded(file, turn, min(right - left, bottom - top) / size)
    left, top, right, bottom = (round(edge / reduction) for edge in (left, top, right, bottom))
    part = _tensor(image)[None, top:bottom, left:right].permute(0, 3, 1, 2)
    resized = F.interpolate(part, (size, size), mode="bicubic", antialias=True)
    return resized[0].permute(1, 2, 0)


def random_box(width: int, height: int, chance: random.Random) -> Box:
    """A random part of 8-100 % of an image's area and of ratio 3/4 to 4/3.

    After ten parts that do not fit, the square in the middle. Szegedy et al. 2015, as in
    fb.resnet.torch: the ratio is uniform, and width and height change places half the time.
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
    path: str | Path, size: int, fraction: float, places: list[tuple[float, float]]
) -> list[Tensor]:
    """Squares of a picture, resized: 0, 0 is the upper left corner, 1, 1 the lower right one."""
    with _opened(path) as (file, turn):
        width, height = _upright_size(file, turn)
        side = min(width, height) * fraction
        image, reduction = _decoded(file, turn, side / size)
    crops = []
    for across, down in places:
        left, top = across * (width - side), down * (height - side)
        box = np.array([left, top, left + side, top + side]) / reduction
        crops.append(_tensor(image.resize((size, size), Image.Resampling.BICUBIC, box=tuple(box))))
    return crops


@contextmanager
def _opened(path: str | Path) -> Iterator[tuple[Image.Image, Turn]]:
    """The picture in a file, and how it must be turned. Only SHRINKABLE ones are not yet decoded."""
    try:
        with Image.open(path, formats=formats()) as file:
            if file.format not in SHRINKABLE:
                file.load()  # turns a TIFF and may change the size that the file's head names
            yield file, None if file.format == "TIFF" else _turn(file)
    except UnidentifiedImageError as error:
        size = os.stat(path).st_size
        what = "it holds no picture of a kind that is read here" if size else "it is empty"
        raise ValueError(what) from error
    except Image.DecompressionBombError as error:
        pixels = max(map(int, re.findall(r"\d+", str(error))))  # it names them and the limit
        raise TooLarge(f"has {pixels:,} pixels", pixels) from error
    except ValueError as error:
        if "MAX_TEXT" not in str(error):
            raise
        most = PngImagePlugin.MAX_TEXT_MEMORY
        raise TooLarge(f"has texts of more than {most:,} bytes") from error


def _turn(file: Image.Image) -> Turn:
    """How a picture must be turned; not at all if its EXIF data are wrong, as viewers do."""
    try:
        orientation = file.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # damaged EXIF data raise nearly anything, and the picture is good without
        return None
    return TURNS.get(orientation) if type(orientation) is int else None


def _decoded(file: Image.Image, turn: Turn, shrinking: float = 1.0) -> tuple[Image.Image, int]:
    """The upright picture of an open file that will be shrunk by so much, and by how much it is."""
    width = file.width
    if shrinking >= 4:
        factor = int(shrinking / 2)
        file.draft(None, (width // factor, file.height // factor))  # JPEG: at least so large
    file.load()
    reduction = round(width / file.width)
    return _rgb(file if turn is None else file.transpose(turn)), reduction


def _upright_size(file: Image.Image, turn: Turn) -> tuple[int, int]:
    """Width and height once the picture is upright."""
    on_a_side = turn in [TURNS[orientation] for orientation in (5, 6, 7, 8)]
    return (file.height, file.width) if on_a_side else file.size


def _rgb(picture: Image.Image) -> Image.Image:
    """In RGB; the picture itself if it is so already."""
    if picture.mode.startswith("I"):
        return _eight_bits(picture).convert("RGB")
    if picture.mode == "F":
        raise ValueError("its pixels are floating-point numbers, whose range is not known")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image).clip(0, 65535) / 257
    return Image.fromarray(values.round().astype(np.uint8))


def _tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image))
