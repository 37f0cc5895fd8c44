"""simplejpeg, an extra, decodes the pixels that Pillow decodes, or leaves the file to Pillow."""

import io
import random

import numpy as np
import pytest
import torch
from PIL import Image

from densenet_cli.data import jpeg
from densenet_cli.data.photo import random_crop, read_rgb

pytest.importorskip("simplejpeg")
KINDS = {
    "4:4:4": {"subsampling": 0},
    "4:2:2": {"subsampling": 1},
    "4:2:0": {"subsampling": 2},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 3},
    "RGB": {"keep_rgb": True},
    "best": {"quality": 100},
    "poor": {"quality": 5},
}


def photo(mode="RGB", size=(203, 149), **options):
    """The content of a JPEG file: smooth colours and noise."""
    chance = np.random.RandomState(0)
    smooth = Image.fromarray(chance.randint(0, 256, (6, 8, 3), dtype=np.uint8)).resize(size)
    noisy = np.array(smooth) // 2 + chance.randint(0, 128, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noisy).convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


def decoded(content):
    with Image.open(io.BytesIO(content)) as file:
        return jpeg.decoded(file)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(203, 149), (8, 8), (1, 17)])
def test_its_pixels_are_those_of_pillow(kind, size):
    content = photo(size=size, **KINDS[kind])
    assert np.array_equal(decoded(content), Image.open(io.BytesIO(content)))


def test_grey_levels_are_repeated_and_other_colours_left_to_pillow():
    content = photo("L")
    assert np.array_equal(decoded(content), Image.open(io.BytesIO(content)).convert("RGB"))
    assert decoded(photo("CMYK")) is None
    with Image.open(io.BytesIO(photo())).convert("RGB") as image:
        image.save(png := io.BytesIO(), "PNG")
    assert decoded(png.getvalue()) is None


@pytest.mark.parametrize("orientation", range(1, 9))
def test_crops_are_the_same_with_and_without_it(orientation, monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = photo(exif=exif)
    crops = [random_crop(content, 64, random.Random(seed)) for seed in range(4)]
    monkeypatch.setattr(jpeg, "simplejpeg", None)
    for seed, crop in enumerate(crops):
        assert torch.equal(random_crop(content, 64, random.Random(seed)), crop)


def test_faults_are_told_or_tolerated_as_by_pillow():
    content = photo()
    with pytest.raises(OSError, match="truncated"):
        random_crop(content[: len(content) // 2], 64, random.Random(0))
    end = content.rindex(b"\xff\xd9")
    odd = content[:end] + b"\0\0\0" + content[end:]  # bytes that are not needed
    assert torch.equal(read_rgb(odd), read_rgb(content))
    crops = [random_crop(each, 64, random.Random(0)) for each in (odd, content)]
    assert torch.equal(*crops)
