import random

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from densenet_cli.data.photo import centre_crop, colour_jitter, random_crop, read_rgb

GRADIENT = np.linspace(0, 255, 40).round().astype(np.uint8)[None].repeat(30, 0)  # 30 x 40, grey


def colour_picture():
    return Image.fromarray(np.stack([GRADIENT, GRADIENT[:, ::-1], GRADIENT // 2], axis=-1))


def read(image, path, **options):
    image.save(path, **options)
    return np.array(read_rgb(path))


@pytest.mark.parametrize(
    ("mode", "suffix", "error"),
    [
        ("RGB", "png", 0), ("RGB", "bmp", 0), ("RGB", "ppm", 0), ("RGB", "tif", 0),
        ("RGB", "webp", 12), ("RGB", "jpg", 12), ("CMYK", "jpg", 12), ("CMYK", "tif", 1),
        ("YCbCr", "jpg", 12), ("RGBA", "png", 0), ("RGBA", "webp", 12), ("P", "png", 60),
    ],
)  # fmt: skip
def test_colour_pictures_of_every_mode_look_alike(mode, suffix, error, tmp_path):
    found = read(colour_picture().convert(mode), tmp_path / f"a.{suffix}")
    assert found.shape == (30, 40, 3)
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - np.array(colour_picture())).max() <= error


@pytest.mark.parametrize(("mode", "suffix"), [("L", "png"), ("L", "pgm"), ("LA", "png"), ("P", "png")])
def test_grey_is_repeated_in_three_channels(mode, suffix, tmp_path):
    found = read(Image.fromarray(GRADIENT).convert(mode), tmp_path / f"a.{suffix}")
    assert (found == GRADIENT[..., None]).all()


def test_black_and_white_pictures(tmp_path):
    found = read(Image.fromarray(GRADIENT > 100).convert("1"), tmp_path / "a.png")
    assert (found[..., 0] == np.where(GRADIENT > 100, 255, 0)).all()


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("I;16", "png"), ("I;16", "tif"), ("I;16B", "tif"), ("I", "tif"), ("I;16", "pgm")],
)
def test_grey_of_sixteen_bits_is_scaled_not_clipped(mode, suffix, tmp_path):
    values = GRADIENT.astype({"I;16": "<u2", "I;16B": ">u2", "I": "<i4"}[mode]) * 257
    image = Image.frombytes(mode, (40, 30), values.tobytes())
    assert (read(image, tmp_path / f"a.{suffix}")[..., 1] == GRADIENT).all()


def test_what_is_transparent_is_white(tmp_path):
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[..., 3] = [[0, 255, 128, 0]]
    found = read(Image.fromarray(pixels), tmp_path / "a.png")
    assert found[0, :, 0].tolist() == [255, 0, 127, 255]
    palette = Image.fromarray(GRADIENT).convert("P")
    found = read(palette, tmp_path / "b.png", transparency=0)
    assert (found[:, 0] == 255).all()
    assert (found[:, 1] == GRADIENT[0, 1]).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_upright(orientation, tmp_path):
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    upright = colour_picture()
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert (read(stored, tmp_path / "a.png", exif=exif) == np.array(upright)).all()


def test_the_first_of_several_frames_is_read(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    assert np.array(read_rgb(tmp_path / "a.tif"))[0, 0].tolist() == [255, 0, 0]


def test_floating_point_pictures_are_refused(tmp_path):
    Image.fromarray(GRADIENT.astype(np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="whose range is not known"):
        read_rgb(tmp_path / "a.tif")


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (256, 256), (500, 97), (64, 64)])
def test_the_centre_crop_is_resize_then_crop(size):
    chance = np.random.RandomState(0)
    rough = Image.fromarray(chance.randint(0, 256, (20, 20, 3)).astype(np.uint8))
    image = rough.resize(size, Image.Resampling.BICUBIC)
    recipe = v2.Compose([v2.Resize(256, v2.InterpolationMode.BICUBIC), v2.CenterCrop(224)])
    difference = np.array(centre_crop(image, 224)).astype(int) - np.array(recipe(image))
    assert np.abs(difference).mean() < 2
    assert centre_crop(image, 64).size == (64, 64)


@pytest.mark.parametrize("size", [(1, 1), (1, 50_000), (30_000, 3), (7, 9)])
def test_photos_of_any_shape_can_be_cut(size):
    image = Image.new("RGB", size, "red")
    for seed in range(5):
        cut = random_crop(image, 16, random.Random(seed))
        assert cut.size == centre_crop(image, 16).size == (16, 16)
        assert np.array(cut)[8, 8].tolist() == [255, 0, 0]


def test_random_crops_have_the_areas_and_ratios_of_the_recipe():
    width, height = 200, 160
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    image = Image.fromarray(np.stack([x, y, 0 * x], axis=-1).astype(np.uint8))
    areas, ratios = [], []
    for seed in range(400):
        cut = np.array(random_crop(image, 100, random.Random(seed))).astype(float)
        covered = [
            (cut[50, 89, 0] - cut[50, 10, 0]) / 79 * 100,
            (cut[89, 50, 1] - cut[10, 50, 1]) / 79 * 100,
        ]
        areas.append(covered[0] * covered[1] / (width * height))
        ratios.append(covered[0] / covered[1])
    assert 0.07 < min(areas) < 0.12
    assert 0.8 < max(areas) < 1.03
    assert 0.70 < min(ratios) < 0.80
    assert 1.25 < max(ratios) < 1.40
    assert 0.4 < np.mean(np.array(ratios) > 1) < 0.6


def test_jitter_keeps_within_its_strength_and_uses_every_order():
    grey = Image.new("RGB", (4, 4), (100, 100, 100))
    brightness = [np.array(colour_jitter(grey, random.Random(seed)))[0, 0, 0] for seed in range(500)]
    assert 59 <= min(brightness) < 63
    assert 137 < max(brightness) <= 141
    assert 95 < np.mean(brightness) < 105
    unchanged = colour_jitter(colour_picture(), random.Random(0), strength=0)
    assert (np.array(unchanged) == np.array(colour_picture())).all()


def test_chance_decides_all():
    image = colour_picture().resize((90, 60))

    def cut(seed):
        chance = random.Random(seed)
        return torch.from_numpy(np.array(colour_jitter(random_crop(image, 32, chance), chance)))

    assert torch.equal(cut(2**62 + 1), cut(2**62 + 1))
    assert not torch.equal(cut(2**62 + 1), cut(1))
