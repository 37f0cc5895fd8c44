"""Broken, too large and repeated images are reported before training."""

import logging
import os
import re
import shutil

import pytest
from image_folders import fill, folder, write
from PIL import Image, PngImagePlugin
from training_batches import training_batches

from densenet_cli.data import image_check
from densenet_cli.options import UserError

pytestmark = pytest.mark.usefixtures("cache")


def break_three(root):
    paths = [root / "train" / "ant" / "0.png", root / "train" / "cat" / "1.png"]
    paths[0].write_bytes(paths[0].read_bytes()[:200])
    paths[1].write_text("no picture")
    link = root / "test" / "bee" / "9.png"
    link.symlink_to(root / "nowhere.png")
    return [*paths, link]


def test_all_broken_files_are_reported_at_once(tmp_path):
    root = fill(tmp_path / "a", 2)
    broken = break_three(root)
    for _ in range(2):  # a broken file is not forgotten
        with pytest.raises(UserError) as caught:
            folder(root)
        message = str(caught.value)
        assert message.startswith(f"3 of 13 images of {root} are broken")
        assert sorted(re.findall(r"^  (\S+): ", message, re.M)) == sorted(map(str, broken))
        assert f"{broken[2]}: No such file or directory\n" in message + "\n"


def test_every_fault_of_a_decoder_is_one_line(tmp_path, monkeypatch):
    def fail(path):
        raise {"0": AssertionError(), "1": ValueError("two\n  lines")}[path[-5]]

    monkeypatch.setattr(image_check, "read_rgb", fail)
    with pytest.raises(UserError) as caught:
        folder(fill(tmp_path / "a", 2))
    assert len(str(caught.value).splitlines()) == 13
    assert "/0.png: AssertionError\n" in str(caught.value)
    assert "/1.png: two lines\n" in str(caught.value)


def test_without_a_check_a_broken_file_is_named_when_it_is_read(tmp_path):
    root = fill(tmp_path / "a", 2)
    broken = break_three(root)[:2]
    data = folder(root, check=False)
    with pytest.raises(UserError, match=r"train/\w+/\d.png cannot be read .*; repair or delete it"):
        list(data.train_dataloader())
    for path in broken:
        assert path.exists()


def test_large_images_are_not_called_broken(tmp_path):
    root = fill(tmp_path / "a", 2)
    huge = root / "train" / "ant" / "huge.png"
    Image.new("1", (20_000, 10_000)).save(huge)
    with pytest.raises(UserError) as caught:
        folder(root)
    assert str(caught.value) == (
        f"1 of 13 images of {root} have more than data.max_pixels=178956970; "
        f"type data.max_pixels=200000000 to read them:\n  {huge}: has 200,000,000 pixels"
    )
    huge.unlink()
    write(huge, 1, (30, 40))
    (root / "train" / "bee" / "bad.png").write_text("")
    with pytest.raises(UserError) as caught:
        folder(root, max_pixels=1199)
    assert str(caught.value).splitlines() == [
        f"1 of 14 images of {root} are broken; repair or delete them, or type data.skip_broken=true:",
        f"  {root}/train/bee/bad.png: it is empty",
        f"1 of 14 images of {root} have more than data.max_pixels=1199; "
        "type data.max_pixels=1200 to read them:",
        f"  {huge}: has 1,200 pixels",
    ]


@pytest.mark.parametrize("limit", [1200, None])
def test_the_limit_on_pixels_holds_for_files_checked_before_and_without_a_check(tmp_path, limit):
    root = fill(tmp_path / "a", 2)
    for place in range(8):
        write(root / "train" / "ant" / f"wide{place}.png", place, (30, 40))
    assert len(training_batches(folder(root, max_pixels=limit), 0)) == 2
    with pytest.raises(UserError, match=r"8 of 20 images .* have more than data.max_pixels=1199;"):
        folder(root, max_pixels=1199)
    data = folder(root, max_pixels=1199, check=False)
    rule = r"has 1,200 pixels, more than data.max_pixels=1199 allows; type data.max_pixels=1200"
    with pytest.raises(UserError, match=rule):
        list(data.train_dataloader())


@pytest.mark.parametrize("chunk", ["zTXt", "iTXt", "tEXt"])
def test_pngs_with_long_texts_are_read(tmp_path, chunk):
    root = fill(tmp_path / "a", 2)
    texts = PngImagePlugin.PngInfo()
    if chunk == "iTXt":
        texts.add_itxt("workflow", "0" * 2_000_000, zip=True)
    else:
        texts.add_text("workflow", "0" * 2_000_000, zip=chunk == "zTXt")
    path = root / "train" / "ant" / "x.png"
    Image.new("RGB", (20, 20)).save(path, pnginfo=texts)
    assert folder(root).sizes["train"] == 7
    os.utime(path, ns=(1, 1))
    with pytest.raises(
        UserError, match=rf"null to read them:\n  {path}: has texts of more than 1,000,000 b"
    ):
        folder(root, max_pixels=1_000_000)
    assert folder(root, max_pixels=None).sizes["train"] == 7


def test_training_images_in_other_splits_are_reported_once(tmp_path, caplog):
    root = fill(tmp_path / "a", 3, splits=("train", "val", "test"))
    shutil.copy(root / "train" / "bee" / "1.png", root / "test" / "ant" / "same.png")
    shutil.copy(root / "train" / "bee" / "2.png", root / "test" / "bee" / "same.png")
    shutil.copy(root / "train" / "cat" / "2.png", root / "val" / "cat" / "same.png")
    for _ in range(2):  # from the note, too
        caplog.clear()
        folder(root)
        (said,) = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert (
            "1 of 10 validation images and 2 of 11 test images are also training images" in said.message
        )
        assert f"{root}/test/ant/same.png equals {root}/train/bee/1.png" in said.message
    caplog.clear()
    folder(fill(tmp_path / "b", 3, splits=("train", "val", "test")))
    assert not [record for record in caplog.records if record.levelno == logging.WARNING]


def test_held_out_images_that_are_test_images_are_reported(tmp_path, caplog):
    root = fill(tmp_path / "a", 3, splits=("train", "val", "test"))
    shutil.copy(root / "test" / "bee" / "2.png", root / "val" / "bee" / "same.png")
    folder(root)
    (said,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert said.message == (
        f"1 of 10 validation images are also test images ({root}/val/bee/same.png equals "
        f"{root}/test/bee/2.png): the measured errors will be too low"
    )


def test_duplicates_are_reported_if_the_split_is_ours(tmp_path, caplog):
    root = fill(tmp_path / "a", 5, splits=("",))
    for path in list(root.glob("*/*.png")):
        shutil.copy(path, path.with_name(f"copy-{path.name}"))
    folder(root, validation=4)
    (said,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert re.search(r"\d of 4 validation images and|and \d of 4 validation images", said.message)
    assert re.search(r"\d of 6 test images", said.message)
    assert said.message.endswith("the measured errors will be too low")


def test_a_broken_file_whose_name_is_not_utf_8_is_named(tmp_path, typed):
    root = fill(tmp_path / "a", 2)
    open(os.fsencode(root / "train" / "ant") + b"/caf\xe9\n.jpg", "wb").close()
    words = ["data=image_folder", f"data.root={root}", "model=densenet_bc", "trainer=cpu"]
    status, said = typed(*words, "hydra.run.dir=run")
    first, second, end = said.split("\n")
    assert first.startswith(f"densenet-run: 1 of 13 images of {root} are broken; repair or delete them")
    assert (status, second, end) == (1, f"  {root}/train/ant/caf\\xe9\\n.jpg: it is empty", "")
    assert "caf\\xe9\\n.jpg: it is empty" in (tmp_path / "run" / "run.log").read_text()


def test_good_files_are_decoded_once_until_they_change(tmp_path, monkeypatch):
    root = fill(tmp_path / "a", 3)
    folder(root)
    decoded = []
    real = image_check.read_rgb
    monkeypatch.setattr(image_check, "read_rgb", lambda path: decoded.append(path) or real(path))
    folder(root)
    assert not decoded
    changed = write(root / "train" / "ant" / "0.png", 99, (30, 30))
    added = write(root / "test" / "bee" / "new.png", 98)
    touched = root / "train" / "cat" / "2.png"  # rewritten, as long as before
    os.utime(touched, ns=(1, 1))
    folder(root)
    assert sorted(decoded) == sorted(map(str, [changed, added, touched]))


def test_the_check_works_without_a_cache(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    root = fill(tmp_path / "a", 2)
    assert folder(root).sizes["train"] == 6
    break_three(root)
    with pytest.raises(UserError, match="3 of 13 images"):
        folder(root)


def test_a_damaged_cache_is_ignored(tmp_path, cache):
    root = fill(tmp_path / "a", 2)
    folder(root)
    (note,) = cache.rglob("*.npy")
    note.write_bytes(b"damaged")
    assert folder(root).sizes["train"] == 6
