import random
import struct

import numpy as np
import pytest
import torch
from PIL import Image, TiffImagePlugin
from torchvision.transforms import v2

from densenet_cli.data.photo import centre_crop, random_box, random_crop, read_rgb

GRADIENT = np.linspace(0, 255, 40).round().astype(np.uint8)[None].repeat(30, 0)  # 30 x 40, grey


def colour_picture():
    return Image.fromarray(np.stack([GRADIENT, GRADIENT[:, ::-1], GRADIENT // 2], axis=-1))


def read(image, path, **options):
    image.save(path, **options)
    return read_rgb(path).numpy()


def rough(size):
    """A picture without fine detail."""
    colours = np.random.RandomState(0).randint(0, 256, (20, 20, 3)).astype(np.uint8)
    return Image.fromarray(colours).resize(size, Image.Resampling.BICUBIC)


def difference(found, expected):
    """Mean absolute difference, in levels of 255."""
    return np.abs(found.numpy().astype(int) - np.array(expected)).mean()


@pytest.mark.parametrize(
    ("mode", "suffix", "error"),
    [
        ("RGB", "png", 0), ("RGB", "bmp", 0), ("RGB", "ppm", 0), ("RGB", "tif", 0),
        ("RGB", "webp", 12), ("RGB", "jpg", 12), ("CMYK", "jpg", 12), ("CMYK", "tif", 1),
        ("YCbCr", "jpg", 12), ("RGBA", "png", 0), ("RGBA", "webp", 12), ("P", "png", 60),
    ],
)  # fmt: skip
def test_colour_images_of_every_mode_look_alike(mode, suffix, error, tmp_path):
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


def test_transparent_parts_become_white(tmp_path):
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[..., 3] = [[0, 255, 128, 0]]
    found = read(Image.fromarray(pixels), tmp_path / "a.png")
    assert found[0, :, 0].tolist() == [255, 0, 127, 255]
    palette = Image.fromarray(GRADIENT).convert("P")
    found = read(palette, tmp_path / "b.png", transparency=0)
    assert (found[:, 0] == 255).all()
    assert (found[:, 1] == GRADIENT[0, 1]).all()


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_upright(orientation, suffix, tmp_path):
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    upright = rough((800, 600))
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    stored.save(path, exif=exif, quality=95)
    assert difference(read_rgb(path), upright) < 2
    expected = random_crop_by_pillow(upright, 32, 5)
    assert difference(random_crop(path, 32, random.Random(5)), expected) < 3
    upright.save(tmp_path / "b.png")
    assert difference(centre_crop(path, 32), centre_crop(tmp_path / "b.png", 32).numpy()) < 3


def exif(kind, count, value):
    """EXIF data that hold an orientation of this TIFF type alone."""
    entry = struct.pack("<HHHI", 1, 0x0112, kind, count) + value[:4].ljust(4, b"\0")
    if len(value) > 4:
        entry = entry[:-4] + struct.pack("<I", 26)
    return b"Exif\0\0II*\0" + struct.pack("<I", 8) + entry + bytes(4) + value[4:] + value


SHORT, TEXT, RATIONAL, BYTES, FLOAT = 3, 2, 5, 7, 11


WRONG = {
    "0": exif(SHORT, 1, b"\0\0"),
    "9": exif(SHORT, 1, b"\x09\0"),
    "65535": exif(SHORT, 1, b"\xff\xff"),
    "no value": exif(SHORT, 0, b""),
    "text": exif(TEXT, 2, b"6\0"),
    "text without end": exif(TEXT, 2, b"66"),
    "bytes": exif(BYTES, 4, b"\6\0\0\0"),
    "byte": exif(BYTES, 1, b"\6"),
    "float": exif(FLOAT, 1, struct.pack("<f", 6)),
    "rational": exif(RATIONAL, 1, struct.pack("<II", 6, 1)),
    "infinite": exif(RATIONAL, 1, struct.pack("<II", 6, 0)),
    "two rationals": exif(RATIONAL, 2, struct.pack("<IIII", 6, 1, 6, 1)),
    "no head": b"Exif\0\0no such thing",
    "nowhere": b"Exif\0\0II*\0\xff\xff\xff\xff",
    "cut off": exif(SHORT, 1, b"\6\0")[:20],
}


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_orientation_is_none(kind, suffix, tmp_path):
    upright, path = rough((90, 30)), tmp_path / f"a.{suffix}"
    upright.save(path, exif=WRONG[kind], quality=95)
    assert read_rgb(path).shape == (30, 90, 3)
    upright.save(tmp_path / f"b.{suffix}", quality=95)
    assert torch.equal(centre_crop(path, 16), centre_crop(tmp_path / f"b.{suffix}", 16))
    for seed in range(3):
        found, expected = (
            random_crop(tmp_path / f"{name}.{suffix}", 16, random.Random(seed)) for name in "ab"
        )
        assert torch.equal(found, expected)


@pytest.mark.parametrize("value", [0, 9, 6.0, "6", b"6", [6, 1]])
def test_a_tiff_of_any_orientation_is_read_whole(value, tmp_path):
    kinds = {int: SHORT, float: 12, str: TEXT, bytes: BYTES, list: SHORT}
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags.tagtype[0x0112] = kinds[type(value)]
    tags[0x0112] = tuple(value) if isinstance(value, list) else value
    rough((90, 30)).save(tmp_path / "a.tif", tiffinfo=tags)
    assert sorted(read_rgb(tmp_path / "a.tif").shape) == [3, 30, 90]
    for seed in range(5):
        box = random_box(*read_rgb(tmp_path / "a.tif").shape[1::-1], random.Random(seed))
        expected = Image.fromarray(read_rgb(tmp_path / "a.tif").numpy()).crop(box)
        expected = expected.resize((16, 16), Image.Resampling.BICUBIC)
        assert difference(random_crop(tmp_path / "a.tif", 16, random.Random(seed)), expected) < 3


def test_the_first_of_several_frames_is_read(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    assert read_rgb(tmp_path / "a.tif")[0, 0].tolist() == [255, 0, 0]


def test_floating_point_pictures_are_refused(tmp_path):
    Image.fromarray(GRADIENT.astype(np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="whose range is not known"):
        read_rgb(tmp_path / "a.tif")


def random_crop_by_pillow(image, size, seed):
    box = random_box(*image.size, random.Random(seed))
    return image.crop(box).resize((size, size), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (256, 256), (500, 97), (64, 64)])
def test_the_centre_crop_is_resize_then_crop(size, tmp_path):
    image = rough(size)
    image.save(tmp_path / "a.png")
    recipe = v2.Compose([v2.Resize(256, v2.InterpolationMode.BICUBIC), v2.CenterCrop(224)])
    assert difference(centre_crop(tmp_path / "a.png", 224), recipe(image)) < 2
    assert centre_crop(tmp_path / "a.png", 64).shape == (64, 64, 3)


@pytest.mark.parametrize("size", [(300, 200), (1203, 901), (1000, 2001)])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg_files_are_decoded_small_where_the_cut_will_be(size, mode, tmp_path):
    image, path = rough(size).convert(mode), tmp_path / "a.jpg"
    image.save(path, quality=95)
    image = image.convert("RGB")
    for seed in range(3):
        expected = random_crop_by_pillow(image, 64, seed)
        assert difference(random_crop(path, 64, random.Random(seed)), expected) < 2
    image.save(tmp_path / "a.bmp")
    assert difference(centre_crop(path, 64), centre_crop(tmp_path / "a.bmp", 64).numpy()) < 2


def test_jpeg_files_are_decoded_as_pillow_does_and_cut_off_ones_refused(tmp_path):
    rough((123, 77)).save(tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as image:
        assert difference(read_rgb(tmp_path / "a.jpg"), image) == 0
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(content[: len(content) // 2])
    with pytest.raises(OSError, match="truncated"):
        read_rgb(tmp_path / "a.jpg")


@pytest.mark.parametrize("size", [(1, 1), (1, 50_000), (30_000, 3), (7, 9)])
def test_photos_of_any_shape_can_be_cropped(size, tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", size, "red").save(path)
    for seed in range(5):
        cut = random_crop(path, 16, random.Random(seed))
        assert cut.shape == centre_crop(path, 16).shape == (16, 16, 3)
        assert cut[8, 8].tolist() == [255, 0, 0]


def test_random_boxes_have_the_areas_and_ratios_of_the_recipe():
    width, height = 200, 160
    boxes = np.array([random_box(width, height, random.Random(seed)) for seed in range(2000)])
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] <= [width, height]).all()
    sides = boxes[:, 2:] - boxes[:, :2]
    areas, ratios = sides.prod(1) / (width * height), sides[:, 0] / sides[:, 1]
    assert 0.075 < areas.min() < 0.1
    assert 0.95 < areas.max() <= 1
    assert 0.74 < ratios.min() < 0.77
    assert 1.30 < ratios.max() < 1.36
    assert 0.4 < np.mean(ratios > 1) < 0.6


def test_the_random_generator_decides_the_crop(tmp_path):
    path = tmp_path / "a.png"
    colour_picture().resize((90, 60)).save(path)

    def cut(seed):
        return random_crop(path, 32, random.Random(seed))

    assert torch.equal(cut(2**62 + 1), cut(2**62 + 1))
    assert not torch.equal(cut(2**62 + 1), cut(1))
