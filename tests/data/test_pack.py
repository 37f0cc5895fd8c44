"""Packs hold the images of a folder in a few files, and are read as the folder is."""

import json
import os
import shutil
import tarfile

import numpy as np
import pytest
import torch
from image_folders import fill, folder, write
from PIL import Image
from training_batches import training_batches

from densenet_cli.data import pack_writer
from densenet_cli.data.pack import Pack
from densenet_cli.options import OptionError, UserError

RAW = {"pack_size": None, "pack_quality": "raw"}


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def variety(root):
    """Images of many kinds: turned, grey, transparent, animated, with names that sort oddly."""
    fill(root, 2, classes=("ant", "ant-2", "bee"))
    noise = np.random.RandomState(0).randint(0, 256, (30, 40, 4), dtype=np.uint8)
    picture = Image.fromarray(noise)
    exif = Image.Exif()
    exif[0x0112] = 6
    for split in ("train", "test"):
        picture.save(root / split / "ant" / "clear.png")
        picture.convert("L").save(root / split / "bee" / "grey.png")
        picture.convert("1").save(root / split / "bee" / "two.png")
        picture.convert("RGB").save(root / split / "bee" / "turned.jpg", exif=exif)
        picture.convert("CMYK").save(root / split / "bee" / "Ink.JPG")
        picture.convert("L").save(root / split / "bee" / "b\udcff.jpg")
        picture.convert("L").save(root / split / "bee" / "two.jpg")  # beside two.png
        picture.convert("LA").save(root / split / "ant" / "grey and clear.png")
        picture.convert("P").save(root / split / "ant" / "palette\n.png", transparency=3)
        deep = Image.fromarray(noise[:, :, 0].astype(np.uint16) * 257)
        deep.save(root / split / "ant-2" / ("\N{GREEK SMALL LETTER BETA}" * 100 + ".png"))
        frames = [picture.convert("P"), picture.rotate(90).convert("P")]
        frames[0].save(root / split / "ant-2" / "moves.gif", save_all=True, append_images=frames[1:])
        picture.crop((0, 0, 1, 1)).save(root / split / "ant-2" / "1x1.png")
        picture.resize((2, 900)).convert("RGB").save(root / split / "ant-2" / "thin.png")
    return root


def batches(data):
    """All batches of an epoch of training, and of the test."""
    tests = [(images, labels) for images, labels, *_ in data.test_dataloader()]
    return [*training_batches(data, 1), *tests]


def assert_equal(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"channels": 1},
        {"antialias": False},
        {"test_crops": 10},
        {"validation": 3},
    ],
    ids=str,
)
def test_a_pack_of_whole_pixels_gives_the_pictures_of_the_folder(options, tmp_path):
    root = variety(tmp_path / "photos")
    file = str(tmp_path / "a.pack")
    expected = folder(root, **options)
    pictures = batches(expected)
    first = folder(root, pack=file, **RAW, **options)
    assert first.facts() == {"pack": {"size": None, "quality": "raw"}}
    again = folder(root, pack=file, **RAW, **options)
    shutil.move(root, tmp_path / "elsewhere")
    alone = folder(file, **options)
    for data in (first, again, alone):
        assert data.digest() == expected.digest()
        assert data.class_names == expected.class_names
        assert data.sizes == expected.sizes
        assert_equal(batches(data), pictures)


def test_loader_workers_read_packs(tmp_path):
    root, file = fill(tmp_path / "photos", 2), str(tmp_path / "a.pack")
    pictures = batches(folder(root))
    data = folder(root, pack=file, **RAW, num_workers=1)
    data.some_test_images(2)  # opens a shard before the worker is forked
    assert_equal(batches(data), pictures)


def test_a_pack_of_jpeg_files_is_alike_and_resized(tmp_path):
    root, file = tmp_path / "photos", tmp_path / "a.pack"
    for number, name in enumerate(("train/a/1", "train/b/2", "test/a/3", "test/b/4")):
        colours = np.random.RandomState(number).randint(0, 256, (5, 4, 3), dtype=np.uint8)
        (root / name).parent.mkdir(parents=True)
        image = Image.fromarray(colours).resize((100, 80), Image.Resampling.BICUBIC)
        image.save(root / f"{name}.png")
    whole, packed = folder(root), folder(root, pack=str(file), pack_size=40, pack_quality=95)
    alone = folder(file)
    assert packed.digest() == whole.digest() != alone.digest()
    assert_equal(batches(packed), batches(alone))
    images, other = (next(iter(data.test_dataloader()))[0].float() for data in (whole, packed))
    assert 0 < (images - other).abs().mean() < 3  # levels of 255
    pack = Pack(file)
    assert [(int(row["width"]), int(row["height"])) for row in pack.index] == [(50, 40)] * 4
    assert (pack.index["pixels"] == 8000).all()


def test_images_that_are_not_resized_stay_the_files_that_they_are(tmp_path):
    root = variety(tmp_path / "photos")
    for size in (30, None):
        file = tmp_path / f"{size}.pack"
        packed = folder(root, pack=str(file), pack_size=size)
        pack = Pack(file)
        for row, name in enumerate(pack.paths):
            assert pack.picture(row) == (root / name).read_bytes()
    assert_equal(batches(packed), batches(folder(root)))


def test_other_programs_can_read_a_pack(tmp_path):
    root, file = variety(tmp_path / "photos"), tmp_path / "a.pack"
    folder(root, pack=str(file), **RAW)
    row = np.load(file / "index.npy", mmap_mode="r")[0]  # as the docstring of pack.py says
    name = (file / "names").read_bytes().split(b"\0")[0].decode()
    shard = np.memmap(file / f"shard-{row['shard']:05}.tar", mode="r", offset=int(row["offset"]))
    pixels = shard[: row["length"]].reshape(row["height"], row["width"], row["channels"])
    expected = np.asarray(Image.open(root / name).convert("RGB"))
    assert (pixels == expected).all()
    with tarfile.open(file / "shard-00000.tar") as archive:
        assert len(archive.getnames()) == len(np.load(file / "labels.npy")) == 38
        assert archive.getnames()[0] == f"{name}.ppm"
        assert (np.asarray(Image.open(archive.extractfile(f"{name}.ppm"))) == expected).all()


def version_1(file):
    """A pack as version 1 is described: one grey image of 2 x 3 pixels in each of two classes."""
    file.mkdir()
    pixels = [np.arange(6, dtype=np.uint8), 10 * np.arange(6, dtype=np.uint8)]
    (file / "shard-00000.tar").write_bytes(bytes(7) + pixels[0].tobytes() + pixels[1].tobytes())
    rows = [(0, 7, 6, 2, 3, 1, 6, 11, 99, 5), (0, 13, 6, 2, 3, 1, 6, 12, 99, 5)]
    fields = "shard <u4, offset <u8, length <u8, height <u4, width <u4, channels <u4, pixels <u8"
    fields += ", digest <u8, size <i8, time <i8"
    index = np.array(rows * 2, [tuple(one.split()) for one in fields.split(", ")])
    np.save(file / "index.npy", index)
    np.save(file / "labels.npy", np.array([0, 1, 0, 1]))
    (file / "names").write_bytes(b"train/a/1.pgm\0train/b/1.pgm\0test/a/1.pgm\0test/b/1.pgm\0")
    facts = {
        "format": "densenet-cli pack",
        "version": 1,
        "packing": {"size": None, "quality": "raw"},
        "images": 4,
        "key": "1",
        "digest": "2",
        "classes": ["a", "b"],
        "splits": {"train": 2, "test": 2},
        "shards": [19],
        "broken": {},
    }
    (file / "pack.json").write_text(json.dumps(facts))
    return facts


def test_packs_of_version_1_stay_readable(tmp_path):
    file = tmp_path / "old.pack"
    version_1(file)
    data = folder(file, batch_size=2)
    assert data.sizes == {"train": 2, "validation": 0, "test": 2}
    assert data.class_names == ["a", "b"]
    assert (Pack(file).picture(1).rows(1, 2) == [[30, 40, 50]]).all()


def test_a_damaged_pack_is_refused(tmp_path):
    file = tmp_path / "old.pack"
    facts = version_1(file)
    for change, message in (
        ({"version": 2}, "of version 2, and this program reads version 1 at most"),
        ({"format": "another"}, "not that of a pack"),
        ({"shards": [20]}, "shard-00000.tar does not have 20 bytes"),
        ({"images": 3}, "its files do not belong together"),
    ):
        (file / "pack.json").write_text(json.dumps(facts | change))
        with pytest.raises(UserError, match=message):
            folder(file)
    (file / "pack.json").write_text("{")
    with pytest.raises(UserError, match="the pack cannot be read"):
        folder(file)


def test_broken_images_are_all_named_and_then_packed(tmp_path):
    root, file = fill(tmp_path / "photos", 3), str(tmp_path / "a.pack")
    good = (root / "train/ant/0.png").read_bytes()
    for name in ("train/ant/0.png", "test/cat/2.png"):
        (root / name).write_bytes(good[:200].ljust(len(good), b"x"))  # as large as a good one
    write(root / "train/bee/large.png", size=(100, 100))
    with pytest.raises(UserError) as caught:
        folder(root, pack=file, max_pixels=5000)
    text = str(caught.value)
    assert "2 of 19 images" in text
    assert "train/ant/0.png" in text
    assert "test/cat/2.png" in text
    assert "type data.max_pixels=10000" in text
    assert not os.path.exists(f"{file}/pack.json")
    for name in ("train/ant/0.png", "test/cat/2.png"):
        (root / name).write_bytes(good)
    folder(root, pack=file)
    with pytest.raises(UserError, match="1 of 19 images"):
        folder(root, pack=file, max_pixels=5000)
    with pytest.raises(UserError, match=r"type data\.max_pixels=10000"):
        folder(file, max_pixels=5000)


def test_an_interrupted_pack_is_completed(tmp_path, monkeypatch):
    root, file = fill(tmp_path / "photos", 4), str(tmp_path / "a.pack")
    monkeypatch.setattr(pack_writer, "SHARD_IMAGES", 5)
    decoded, encode, is_stopped = [], pack_writer.entry, True

    def until_the_twelfth(path, *others):
        decoded.append(path)
        if path.endswith("train/cat/3.png") and is_stopped:
            raise KeyboardInterrupt
        return encode(path, *others)

    monkeypatch.setattr(pack_writer, "SAMPLE", 1)
    monkeypatch.setattr(pack_writer, "entry", until_the_twelfth)
    with pytest.raises(KeyboardInterrupt):
        folder(root, pack=file, **RAW)
    assert not os.path.exists(f"{file}/pack.json")
    assert [len(np.load(f"{file}/shard-0000{number}.npy")) for number in range(3)] == [5, 5, 1]
    kept = os.stat(f"{file}/shard-00000.tar").st_mtime_ns
    decoded.clear()
    is_stopped = False
    packed = folder(root, pack=file, **RAW)
    assert os.stat(f"{file}/shard-00000.tar").st_mtime_ns == kept
    assert sorted({path[len(str(root)) + 1 :] for path in decoded}) == sorted(
        packed.packable().names[11:]
    )
    assert_equal(batches(packed), batches(folder(root)))
    assert sorted(os.listdir(file)) == [
        *(".lock", "index.npy", "labels.npy", "names", "pack.json"),
        *(f"shard-0000{number}.tar" for number in range(5)),
    ]


def test_a_changed_folder_is_refused_by_a_named_pack(tmp_path):
    root, file = fill(tmp_path / "photos", 3), str(tmp_path / "a.pack")
    folder(root, pack=file)
    refused = lambda text: pytest.raises(OptionError, match=text)  # noqa: E731
    path = root / "train/bee/1.png"
    content, status = path.read_bytes(), path.stat()
    path.write_bytes(content)  # another time, the same content
    folder(root, pack=file)
    path.write_bytes(content[:-1] + b"x")
    os.utime(path, ns=(0, 0))
    with refused("holds an older train/bee/1.png than"):
        folder(root, pack=file)
    path.write_bytes(content + b"x")
    with refused("the size of train/bee/1.png has changed"):
        folder(root, pack=file)
    path.unlink()
    with refused("train/bee/1.png is missing"):
        folder(root, pack=file)
    path.write_bytes(content)
    os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))
    write(root / "train/bee/9.png")
    with refused("train/bee/9.png is new.*delete .*a.pack to pack the images again"):
        folder(root, pack=file)
    with refused("was packed with another value.*for example pack_size=256"):
        folder(root, pack=file, pack_size=200)
    with refused("data.root is a pack already"):
        folder(file, pack=file)


def test_an_automatic_pack_is_made_anew_for_a_changed_folder(tmp_path):
    root, place = fill(tmp_path / "photos", 3), tmp_path / "cache" / "densenet-cli" / "packs"
    folder(root, pack=True)
    folder(root, pack=True)
    assert len(list(place.iterdir())) == 1
    folder(root, pack=True, pack_size=30, pack_quality="raw")
    write(root / "train/bee/9.png")
    assert folder(root, pack=True).sizes["train"] == 10
    assert len(list(place.glob("photos-*-256-jpeg90.pack"))) == 2
    assert len(list(place.glob("photos-*-30-raw.pack"))) == 1
    elsewhere = tmp_path / "large disk"
    elsewhere.mkdir()
    folder(root, pack=str(elsewhere))
    assert [path.name for path in elsewhere.iterdir()] == [
        path.name for path in place.glob("photos-*-256-jpeg90.pack") if Pack(path).facts["images"] == 19
    ]


def test_too_little_space_is_noticed_before(tmp_path, monkeypatch):
    root = fill(tmp_path / "photos", 3)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10_000))
    with pytest.raises(UserError, match=r"needs some .* kB, and 10 kB are free; name another place"):
        folder(root, pack=str(tmp_path / "a.pack"))


def test_a_place_that_cannot_be_written(tmp_path):
    root = fill(tmp_path / "photos", 3)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"pack=.*/file: is a file; a pack is a folder"):
        folder(root, pack=str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"cannot be written.* pack=/path/a\.pack"):
        folder(root, pack=str(tmp_path / "file" / "a.pack"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pack": 3}, "pack=3: must be true, false, or a folder"),
        ({"pack_size": 0}, "pack_size=0: must be a whole number, 8 or more"),
        ({"pack_quality": 0}, "pack_quality=0: must be raw, or a whole number from 1 to 100"),
        ({"pack_quality": "png"}, "pack_quality=png: must be raw"),
    ],
)
def test_wrong_options(options, message, tmp_path):
    with pytest.raises(OptionError, match=message):
        folder(tmp_path, **options)


def test_equal_images_in_two_splits_are_named(tmp_path, caplog):
    root = fill(tmp_path / "photos", 3)
    shutil.copy(root / "train/ant/0.png", root / "test/bee/copy.png")
    folder(root, pack=str(tmp_path / "a.pack"))
    assert "1 of 10 test images are also training images" in caplog.text


def test_broken_images_are_skipped_as_in_the_folder(tmp_path):
    root, file = fill(tmp_path / "photos", 3), str(tmp_path / "a.pack")
    for name in ("train/bee/1.png", "test/cat/2.png"):
        (root / name).write_bytes((root / name).read_bytes()[:200])
    options = {"skip_broken": True, "check": False}
    pictures = batches(folder(root, **options))
    packed = folder(root, pack=file, **RAW, **options)
    assert_equal(batches(packed), pictures)
    assert_equal(batches(folder(file, **options)), pictures)
    assert Pack(tmp_path / "a.pack").facts["broken"].keys() == {"4", "17"}
    with pytest.raises(UserError, match="2 of 18 images"):
        folder(root, pack=file, **RAW)
