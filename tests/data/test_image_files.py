"""Which files of a class folder are images, and what is left out."""

import logging
import os
import socket

import pytest
from image_folders import assert_refused, fill, folder, names, write
from PIL import EpsImagePlugin, Image, features

from densenet_cli.options import UserError

pytestmark = pytest.mark.usefixtures("cache")


def test_any_image_file_counts_and_others_do_not(tmp_path):
    root = fill(tmp_path / "a", 2)
    for name in ("B.JPG", "c.jpeg", "deep/er/d.tiff", "e.webp", "f.bmp"):
        write(root / "train" / "ant" / name)
    write(root / "train" / "ant" / ".hidden.png")
    write(root / "train" / ".hidden" / "a.png")
    write(root / "train" / "ant" / ".thumbs" / "a.png")
    write(root / ".hidden" / "a.png")
    (root / "train" / "ant" / "notes.txt").write_text("not a picture")
    (root / "train" / "classes.csv").write_text("")
    assert folder(root).sizes["train"] == 11


@pytest.mark.parametrize("split", ["", "train"])
def test_folders_that_contain_themselves_are_searched_once(tmp_path, split, caplog):
    root = fill(tmp_path / "a", 5, splits=("train", "test") if split else ("",))
    plain = {name: names(getattr(folder(root)._contents, name)) for name in ("train", "test")}
    ant = root / split / "ant"
    for name, target in {"a": ".", "b": ".", "up": "..", "top": "../../..", "bee": "../bee"}.items():
        (ant / name).symlink_to(target)
    (root / split / "itself").symlink_to(".")
    (root / "over").symlink_to("..")
    write(tmp_path / "elsewhere" / "deep" / "1.png", 77)
    (ant / "more").symlink_to(tmp_path / "elsewhere")
    (ant / "again").symlink_to(tmp_path / "elsewhere" / "deep")
    (root / split / "cat" / "again").symlink_to(tmp_path / "elsewhere")
    caplog.clear()
    contents = folder(root)._contents
    assert len(contents.train) + len(contents.test) == sum(map(len, plain.values())) + 1
    if split:
        assert names(contents.test) == plain["test"]
    (said,) = [record for record in caplog.records if "left out" in record.message]
    assert said.levelno == logging.WARNING
    assert f"{root}: left out: links to folders that are searched anyway: 9 (" in said.message
    assert str(ant / "a") in said.message


def test_a_class_folder_may_be_a_link(tmp_path):
    root = fill(tmp_path / "a", 4, splits=("",))
    (root / "bee").rename(tmp_path / "bees")
    (root / "bee").symlink_to(tmp_path / "bees")
    assert folder(root).sizes == {"train": 10, "validation": 0, "test": 2}
    (root / "wasp").symlink_to("bee")
    assert_refused(root, f"has two classes in {root} that are the same folder: bee and wasp")
    (root / "wasp").unlink()
    (root / "wasp").symlink_to("nowhere")
    assert_refused(root, f"has a link that leads to nothing, {root}/wasp; repair or delete it")


def test_only_regular_files_are_read(tmp_path, caplog):
    root = fill(tmp_path / "a", 2)
    os.mkfifo(root / "train" / "ant" / "x.png")
    (root / "train" / "ant" / "null.jpg").symlink_to(os.devnull)
    (root / "train" / "ant" / "notes.txt").symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(os.path.relpath(root / "train" / "ant" / "y.png"))
    assert folder(root).sizes["train"] == 6
    assert "pipes, sockets and devices: 3 (" in caplog.text
    assert f"links to nothing: 1 ({root}/train/ant/notes.txt)" in caplog.text


def test_files_of_operating_systems_are_left_out_and_reported(tmp_path, caplog):
    root = fill(tmp_path / "a", 2)
    thumbs = ("@eaDir", ".@__thumb", "__MACOSX", ".thumbnails", ".ipynb_checkpoints", "#recycle")
    for name in thumbs:
        write(root / "train" / name / "0.png")
        write(root / "train" / "ant" / name / "0.png")
        write(root / name / "0.png")
    for name in ("._x.jpg", ".hidden.png", "Thumbs.db", "desktop.ini"):
        (root / "train" / "ant" / name).write_bytes(b"")
    data = folder(root)
    assert data.class_names == ["ant", "bee", "cat"]
    assert data.sizes["train"] == 6
    assert "hidden files, and files and folders of the system: 22 (" in caplog.text
    assert "@eaDir 3" in caplog.text


def test_all_formats_of_pillow_are_read_and_other_files_are_reported(tmp_path, caplog):
    root = fill(tmp_path / "a", 2)
    suffixes = ["gif", "jfif", "JPE", "webp", "bmp", "tiff", "ppm", "pgm", "tga", "ico"]
    suffixes += [
        name for name in ("avif", "jp2") if features.check({"jp2": "jpg_2000"}.get(name, name))
    ]
    for suffix in suffixes:
        write(root / "train" / "ant" / f"x.{suffix}")
    for name in ("a.heic", "b.HEIC", "c.cr2", "d.eps", "e.pdf", "f.h5", "readme"):
        (root / "train" / "bee" / name).write_bytes(b"")
    write(root / "train" / "lost.png")
    write(root / "more" / "dog" / "1.png")
    assert folder(root).sizes["train"] == 6 + len(suffixes)
    (said,) = [record.message for record in caplog.records if "left out" in record.message]
    assert "files of other kinds: 7 (.heic 2, .cr2, .eps, .pdf, .h5, no ending)" in said
    assert f"images in no class folder: 1 ({root}/train/lost.png)" in said
    assert "folders beside those of the splits: 1 (more)" in said


def test_no_other_program_is_run_to_read_a_file(tmp_path, monkeypatch):
    root = fill(tmp_path / "a", 2)
    script = root / "train" / "ant" / "a.jpg"
    Image.new("RGB", (9, 9)).save(script, format="EPS")
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("it was run"))
    with pytest.raises(UserError, match=r"^1 of 13 images of .* broken.*\n  \S+/train/ant/a.jpg: "):
        folder(root)
