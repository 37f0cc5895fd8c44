"""The check of a large folder in seconds: what it finds in all files, and what it does not."""

import logging
import os
import re
import shutil

import pytest
from image_folders import fill, folder, write
from PIL import Image

from densenet_cli.data import quick_check
from densenet_cli.options import UserError

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture(autouse=True)
def two_in_the_sample(monkeypatch):
    monkeypatch.setattr(quick_check, "SAMPLE", 2)


def photo(path, colour=0):
    """A JPEG file of some kilobytes."""
    Image.open(write(path.with_suffix(".png"), colour, (60, 50))).save(path)
    path.with_suffix(".png").unlink()
    return path


def warnings(caplog):
    return [record.message for record in caplog.records if record.levelno == logging.WARNING]


def test_files_that_are_cut_off_or_no_images_are_found_among_all(tmp_path):
    root = fill(tmp_path / "a", 4)
    train = root / "train"
    cut = [train / "ant" / "0.png", photo(train / "bee" / "cut.jpg"), photo(train / "cat" / "half.jpg")]
    for path in cut:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    broken = [
        train / "ant" / "page.png",
        train / "ant" / "empty.gif",
        root / "test" / "bee" / "zeros.jpg",
    ]
    broken[0].write_text("<html>503 Service Unavailable</html>")
    broken[1].write_bytes(b"")
    broken[2].write_bytes(b"\0" * 5000)
    dangling = root / "test" / "cat" / "9.png"
    dangling.symlink_to(root / "nowhere.png")
    for _ in range(2):  # a broken file is not forgotten
        with pytest.raises(UserError) as caught:
            folder(root)
        message = str(caught.value)
        assert message.startswith(f"7 of 30 images of {root} are broken")
        assert sorted(re.findall(r"^  (\S+): ", message, re.M)) == sorted(
            map(str, [*cut, *broken, dangling])
        )
    assert folder(root, check=False).sizes == {"train": 16, "validation": 0, "test": 14}


def test_good_files_of_any_kind_are_not_called_broken(tmp_path):
    root = fill(tmp_path / "a", 4)
    for ending in (".gif", ".bmp", ".webp", ".tif", ".tga", ".ppm", ".jp2"):
        Image.new("RGB", (30, 20), "red").save(root / "train" / "ant" / f"x{ending}")
    more = photo(root / "train" / "bee" / "more.jpg")
    more.write_bytes(more.read_bytes() + b"x" * 100)  # cameras append notes of their own
    assert folder(root).sizes["train"] == 20


def test_only_a_sample_is_decoded_and_full_decodes_all(tmp_path, monkeypatch):
    root = fill(tmp_path / "a", 8)
    decoded = []
    real = quick_check.check_images
    monkeypatch.setattr(
        quick_check, "check_images", lambda *a, **kw: decoded.extend(a[1]) or real(*a, **kw)
    )
    inner = root / "train" / "ant" / "inner.png"
    shutil.copy(root / "train" / "ant" / "0.png", inner)
    folder(root)
    assert len(decoded) == 2
    assert str(inner) not in decoded
    content = bytearray(inner.read_bytes())
    content[200:400] = b"\0" * 200
    inner.write_bytes(content)
    folder(root)  # in good order at both ends
    assert decoded[:2] == decoded[2:]
    for typed in ("full", True):
        with pytest.raises(UserError, match=f"1 of 49 images .* are broken.*\n  {inner}: "):
            folder(root, check=typed)


def test_files_are_looked_at_once_until_one_changes(tmp_path, monkeypatch):
    root = fill(tmp_path / "a", 4)
    folder(root)
    looked = []
    real = quick_check._looked_at
    monkeypatch.setattr(quick_check, "_looked_at", lambda *a: looked.append(1) or real(*a))
    folder(root)
    assert not looked
    os.utime(root / "train" / "cat" / "2.png", ns=(1, 1))  # rewritten, as long as before
    folder(root)
    folder(root)
    assert len(looked) == 1
    folder(root, validation=3)  # images that are in two splits may be others
    assert len(looked) == 2


def test_images_in_two_splits_are_found_among_all(tmp_path, caplog):
    root = fill(tmp_path / "a", 4, splits=("train", "val", "test"))
    shutil.copy(root / "train" / "bee" / "1.png", root / "test" / "ant" / "same.png")
    shutil.copy(root / "train" / "bee" / "2.png", root / "train" / "ant" / "twice.png")
    alike = root / "train" / "cat" / "1.png"  # as long, and with the same end, but another image
    content = bytearray(alike.read_bytes())
    content[60:70] = bytes(10)
    (root / "val" / "cat" / "alike.png").write_bytes(content)
    for _ in range(2):  # from the note, too
        caplog.clear()
        folder(root)
        assert warnings(caplog) == [
            f"1 of 13 test images are also training images ({root}/test/ant/same.png equals "
            f"{root}/train/bee/1.png): the measured errors will be too low"
        ]


def test_a_number_that_may_be_too_small_is_called_so(tmp_path, caplog, monkeypatch):
    root = fill(tmp_path / "a", 4)
    for path in sorted((root / "train").glob("*/*.png")):
        shutil.copy(path, root / "test" / path.parent.name / f"same-{path.name}")
    monkeypatch.setattr(quick_check, "COMPARED", 6)
    for _ in range(2):
        caplog.clear()
        folder(root)
        (said,) = warnings(caplog)
        assert said.startswith("at least 3 of 24 test images are also training images (")
