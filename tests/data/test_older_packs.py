"""A new pack copies what older ones beside it hold, and is as if it were packed from the files."""

import os
import shutil

import pytest
from image_folders import fill, folder, write

from densenet_cli.data import pack_entry, pack_writer
from densenet_cli.data.pack import Pack, PackedPixels
from densenet_cli.options import OptionError, UserError

PACKINGS = [
    {"pack_size": None, "pack_quality": "raw"},
    {"pack_size": 15, "pack_quality": "raw"},
    {"pack_size": 15},
    {"pack_size": None},
]


@pytest.fixture(autouse=True)
def packs(tmp_path, monkeypatch):
    """The folder of packs in the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "densenet-cli" / "packs"


@pytest.fixture
def encoded(monkeypatch):
    """The names of the images that are decoded for a pack, in any order."""
    monkeypatch.setattr(pack_writer, "SHARD_IMAGES", 5)
    monkeypatch.setattr(pack_writer, "SAMPLE", 1)
    encode, names = pack_entry._encoded, set()

    def noted(path, *others):
        names.add(os.path.join(*path.split(os.sep)[-3:]))
        return encode(path, *others)

    monkeypatch.setattr(pack_entry, "_encoded", noted)
    return names


def content(pack):
    return {path.name: path.read_bytes() for path in pack.iterdir() if path.name != ".lock"}


def change(root):
    """Remove, add, rename and rewrite images, and touch one."""
    (root / "train/ant/1.png").unlink()
    write(root / "train/ant/9.png", 90)
    (root / "train/bee/0.png").rename(root / "train/bee/5.png")
    write(root / "test/cat/0.png", 91)
    os.utime(root / "test/cat/1.png", ns=(7, 7))


@pytest.mark.parametrize("packing", PACKINGS, ids=str)
def test_a_changed_folder_is_packed_from_its_older_pack(packing, tmp_path, packs, encoded, caplog):
    root = fill(tmp_path / "photos", 4)
    folder(root, pack=True, **packing)
    change(root)
    encoded.clear()
    folder(root, pack=True, **packing)
    assert encoded == {"train/ant/9.png", "test/cat/0.png"}
    assert f"{packs}: 2 packs take " in caplog.text
    shutil.copytree(root, tmp_path / "elsewhere/photos")  # with the same times
    folder(tmp_path / "elsewhere/photos", pack=str(tmp_path / "alone"), **packing)
    (fresh,) = (tmp_path / "alone").iterdir()
    assert content(packs / fresh.name) == content(fresh)


def test_images_packed_in_another_way_are_not_copied(tmp_path, encoded):
    root = fill(tmp_path / "photos", 2)
    for packing in PACKINGS:
        encoded.clear()
        folder(root, pack=True, **packing)
        assert len(encoded) == 12


def test_after_a_broken_image_is_repaired_only_this_one_is_packed(tmp_path, packs, encoded):
    root = fill(tmp_path / "photos", 4)
    path = root / "train/ant/1.png"
    good = path.read_bytes()
    for pack in (True, str(tmp_path / "a.pack")):
        path.write_bytes(good[:100])
        with pytest.raises(UserError, match="1 of 24 images"):
            folder(root, pack=pack)
        encoded.clear()
        with pytest.raises(UserError, match="1 of 24 images"):
            folder(root, pack=pack)
        assert encoded == {"train/ant/1.png"}
        path.write_bytes(good)
        os.utime(path, ns=(7, 7))
        encoded.clear()
        folder(root, pack=pack)
        assert encoded == {"train/ant/1.png"}
    (made,) = packs.iterdir()  # what was begun for the broken image is deleted
    assert content(made) == content(tmp_path / "a.pack")


def test_an_image_that_is_rewritten_during_packing_is_packed_again(tmp_path, encoded):
    root, file = fill(tmp_path / "photos", 4), tmp_path / "a.pack"
    (broken := root / "test/cat/3.png").write_bytes(b"x" * 100)
    with pytest.raises(UserError, match="1 of 24 images"):
        folder(root, pack=str(file), pack_size=None, pack_quality="raw")
    first = root / "train/ant/0.png"
    size = first.stat().st_size
    write(first, 50, (1, 1))
    first.write_bytes(first.read_bytes().ljust(size, b"x"))  # another image of the same size
    write(broken, 50, (1, 1))
    broken.write_bytes(broken.read_bytes().ljust(100, b"x"))
    encoded.clear()
    folder(root, pack=str(file), pack_size=None, pack_quality="raw")
    assert encoded == {"train/ant/0.png", "test/cat/3.png"}
    image = Pack(file).picture(0)
    assert isinstance(image, PackedPixels)
    assert (image.height, image.width) == (1, 1)


def test_skipped_images_are_looked_at_again(tmp_path, encoded):
    root, file = fill(tmp_path / "photos", 4), tmp_path / "a.pack"
    path = root / "train/ant/1.png"
    good = path.read_bytes()
    path.write_bytes(good[:100].ljust(len(good), b"x"))
    with pytest.raises(UserError, match="1 of 24 images"):
        folder(root, pack=str(file))
    folder(root, pack=str(file), skip_broken=True, check=False)
    assert Pack(file).facts["broken"].keys() == {"1"}
    path.write_bytes(good)
    encoded.clear()
    folder(root, pack=str(tmp_path / "b.pack"))
    assert encoded == {"train/ant/1.png"}


def test_larger_images_than_allowed_are_refused_also_from_an_older_pack(tmp_path):
    root = fill(tmp_path / "photos", 2)
    folder(root, pack=str(tmp_path / "a.pack"))
    with pytest.raises(UserError, match=r"type data\.max_pixels="):
        folder(root, pack=str(tmp_path / "b.pack"), max_pixels=300)


def test_a_folder_of_other_files_is_not_touched(tmp_path):
    root, file = fill(tmp_path / "photos", 2), tmp_path / "mine.pack"
    file.mkdir()
    (file / "shard-00000.tar").write_text("mine")
    with pytest.raises(OptionError, match=r"holds shard-00000.tar and no pack; delete the folder"):
        folder(root, pack=str(file))
    assert (file / "shard-00000.tar").read_text() == "mine"


def test_damaged_packs_beside_one_do_not_matter(tmp_path, encoded):
    root = fill(tmp_path / "photos", 2)
    folder(root, pack=str(tmp_path / "a.pack"))
    (tmp_path / "b.pack").mkdir()
    for name in ("pack.json", "index.npy", "names"):
        for text in ("", "{}", "[]"):
            shutil.rmtree(tmp_path / "b.pack")
            shutil.copytree(tmp_path / "a.pack", tmp_path / "b.pack")
            (tmp_path / "b.pack" / name).write_text(text)
            encoded.clear()
            folder(root, pack=str(tmp_path / "c.pack"))
            assert encoded == set()
            shutil.rmtree(tmp_path / "c.pack")
