"""An image is the same whether it comes as a file, as bytes, or as pixels."""

import random

import numpy as np
import pytest
import torch
from PIL import Image

from densenet_cli.data.photo import centre_crop, random_crop, read_rgb, ten_crops


class DecodedPixels:
    def __init__(self, array):
        self.array = array
        self.height, self.width = array.shape[:2]

    def rows(self, top, bottom):
        return self.array[top:bottom]


def forms(path):
    """The content of a file, its upright pixels, and those in grey if they are."""
    pixels = read_rgb(path).numpy()
    grey = [DecodedPixels(pixels[..., 0])] if (pixels == pixels[..., :1]).all() else []
    return [path.read_bytes(), DecodedPixels(pixels), *grey]


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("kind", ["RGB.png", "L.png", "RGBA.png", "CMYK.jpg", "L.jpg", "RGB.jpg"])
def test_crops_do_not_depend_on_the_form(kind, antialias, channels, tmp_path):
    mode, ending = kind.split(".")
    noise = np.random.RandomState(0).randint(0, 256, (50, 60, 4), dtype=np.uint8)
    image = Image.fromarray(noise).convert(mode)
    path = tmp_path / f"a.{ending}"
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side
    image.save(path, exif=exif)
    options = {"channels": channels, "antialias": antialias}
    for crop in (centre_crop, ten_crops):
        expected = crop(path, 20, **options)
        assert all(torch.equal(crop(form, 20, **options), expected) for form in forms(path))
    for seed in range(5):
        expected = random_crop(path, 20, random.Random(seed), **options)
        for form in forms(path):
            assert torch.equal(random_crop(form, 20, random.Random(seed), **options), expected)


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "it is empty"), (b"text", "it has no image in a known format")]
)
def test_bytes_that_are_no_image(content, message):
    with pytest.raises(ValueError, match=message):
        read_rgb(content)
