"""Torch7's bicubic scaling: its own tests' numbers, and its C loop written again in Python."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from densenet_cli.data.photo import centre_crop, random_box, random_crop, ten_crops
from densenet_cli.data.torch7_scale import scaled

ROUNDED = 0.501  # the most by which rounding changes a level, with errors of float32


class Chance:
    """A random.Random whose box is the whole image."""

    def uniform(self, low, high):
        return 1.0

    def random(self):
        return 0.0


def cubic(line, length):
    """scaleCubic_rowcol of torch/image, generic/image.c, for one line of numbers."""
    if length == len(line):
        return list(line)
    step, out = (len(line) - 1) / (length - 1), []
    for place in range(length - 1):
        i = math.floor(place * step)
        x = place * step - i
        p1, p2 = line[i], line[i + 1]
        p0 = line[i - 1] if i > 0 else 2 * p1 - p2
        p3 = line[i + 2] if i + 2 < len(line) else 2 * p2 - p1
        a1, a2 = -p0 / 2 + p2 / 2, p0 - 5 / 2 * p1 + 2 * p2 - p3 / 2
        a3 = -p0 / 2 + 3 / 2 * p1 - 3 / 2 * p2 + p3 / 2
        out.append(p1 + x * (a1 + x * (a2 + a3 * x)))
    return [*out, line[-1]]


def by_hand(image, height, width):
    """image.scale of (H, W, C): rows first, then columns; clipped, not rounded."""
    planes = []
    for plane in np.asarray(image, dtype=float).transpose(2, 0, 1):
        wide = np.array([cubic(row, width) for row in plane])
        planes.append(np.array([cubic(column, height) for column in wide.T]).T)
    return np.stack(planes, axis=2).clip(0, 255)


def random_image(height, width):
    generator = torch.Generator().manual_seed(height * width)
    return torch.randint(256, (height, width, 3), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize(
    "expected", [[1, 1.4375, 2, 3.1875, 4, 3.25, 2], [1, 3.1875, 2]], ids=["upscale", "downscale"]
)
def test_the_numbers_of_torch7s_own_tests(expected):
    """torch/image, test/test.lua: bicubicUpscale and bicubicDownscale, here times 15."""
    line = torch.tensor([1.0, 2, 4, 2])
    image = (15 * torch.outer(line, line)).to(torch.uint8)[..., None]
    size = len(expected)
    found = scaled(image, (size, size), (0, 0, size, size))[..., 0]
    assert np.abs(found.numpy() - 15 * np.outer(expected, expected)).max() <= ROUNDED


@pytest.mark.parametrize(
    ("shape", "size"), [((13, 17), (5, 8)), ((5, 8), (13, 17)), ((9, 4), (9, 11)), ((2, 3), (7, 2))]
)
def test_it_is_the_published_loop_for_the_whole_and_for_parts(shape, size):
    image = random_image(*shape)
    expected = by_hand(image, *size)
    whole = scaled(image, size, (0, 0, size[1], size[0]))
    assert np.abs(whole.numpy() - expected).max() <= ROUNDED
    part = scaled(image, size, (1, 2, size[1] - 1, size[0]))
    assert torch.equal(part, whole[2 : size[0], 1 : size[1] - 1])


def test_a_line_of_one_pixel_is_repeated():
    assert scaled(
        torch.full((1, 1, 3), 9, dtype=torch.uint8), (4, 4), (0, 0, 4, 4)
    ).unique().tolist() == [9]


@pytest.mark.parametrize("shape", [(40, 61), (61, 40), (32, 32), (20, 33)])
def test_crops_are_scale_then_crop_of_fb_resnet_torch(shape, tmp_path):
    """datasets/transforms.lua: Scale(32), then CenterCrop(28) or TenCrop(28)."""
    image = random_image(*shape)
    Image.fromarray(image.numpy()).save(tmp_path / "a.png")
    height, width = shape
    tall, wide = (32, width * 32 // height) if height < width else (height * 32 // width, 32)
    whole = by_hand(image, tall, wide)
    left, top = math.ceil((wide - 28) / 2), math.ceil((tall - 28) / 2)
    found = centre_crop(tmp_path / "a.png", 28, antialias=False).numpy()
    assert np.abs(found - whole[top : top + 28, left : left + 28]).max() <= ROUNDED
    crops = ten_crops(tmp_path / "a.png", 28, antialias=False).numpy()
    assert np.array_equal(crops[0], found)
    corners = [(0, 0), (0, wide - 28), (tall - 28, 0), (tall - 28, wide - 28)]
    for crop, mirrored, (y, x) in zip(crops[1:5], crops[6:], corners, strict=True):
        assert np.abs(crop - whole[y : y + 28, x : x + 28]).max() <= ROUNDED
        assert np.array_equal(mirrored, crop[:, ::-1])


def test_a_random_part_is_scaled_likewise(tmp_path):
    image = random_image(33, 33)
    Image.fromarray(image.numpy()).save(tmp_path / "a.png")
    assert random_box(33, 33, Chance()) == (0, 0, 33, 33)
    found = random_crop(tmp_path / "a.png", 16, Chance(), antialias=False)
    assert np.abs(found.numpy() - by_hand(image, 16, 16)).max() <= ROUNDED
    smooth = random_crop(tmp_path / "a.png", 16, Chance())
    other = interpolate(image.permute(2, 0, 1)[None], (16, 16), mode="bicubic", antialias=True)
    assert torch.equal(smooth, other[0].permute(1, 2, 0))
    assert found.float().std() > 1.5 * smooth.float().std()  # noise is not averaged


def test_a_large_jpeg_is_read_whole(tmp_path):
    """Decoding at a fraction of the size would be a kind of antialiasing."""
    Image.fromarray(random_image(400, 400).numpy()).save(tmp_path / "a.jpg", quality=95)
    pixels = np.asarray(Image.open(tmp_path / "a.jpg"))
    found = centre_crop(tmp_path / "a.jpg", 16, 0.5, antialias=False)
    assert np.abs(found.numpy() - by_hand(pixels, 32, 32)[8:24, 8:24]).max() <= ROUNDED
