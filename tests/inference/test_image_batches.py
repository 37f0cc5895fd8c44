import os

import pytest
from PIL import Image

from densenet_cli.data.photo import read_rgb
from densenet_cli.inference.image_batches import batches, find, limit
from densenet_cli.options import UserError


def write_image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (9, 9)).save(path)
    return path


def test_a_folder_gives_each_image_that_training_would_read_once(tmp_path, caplog):
    expected = [str(write_image(tmp_path / name)) for name in ("a.gif", "b/c.png", "d.jfif", "e.tga")]
    (tmp_path / "b" / "loop").symlink_to("..")
    (tmp_path / "itself").symlink_to(".")
    (tmp_path / "itself.png").symlink_to("itself.png")  # is named when it cannot be read
    write_image(tmp_path / "@eaDir" / "a.gif")
    (tmp_path / "b" / "f.heic").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe.png")
    assert find([tmp_path]) == [*expected, str(tmp_path / "itself.png")]
    (said,) = [record.message for record in caplog.records]
    assert said == (
        f"{tmp_path}: left out: files of other kinds: 1 (.heic); "
        f"links to folders that are searched anyway: 2 ({tmp_path}/itself, {tmp_path}/b/loop); "
        f"pipes, sockets and devices: 1 ({tmp_path}/pipe.png); "
        "hidden files, and files and folders of the system: 1 (@eaDir)"
    )


def test_a_hidden_folder_is_searched_if_it_is_named(tmp_path):
    path = write_image(tmp_path / ".hidden" / "a.png")
    assert find([tmp_path / ".hidden"]) == [str(path)]


def test_paths_without_images_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(UserError, match=r"pipe\.png: is a pipe, socket or device, not a file"):
        find([tmp_path / "pipe.png"])
    with pytest.raises(UserError, match=r"none\.png: there is no such file"):
        find([tmp_path / "none.png"])
    (tmp_path / "a.heic").write_bytes(b"")
    with pytest.raises(UserError, match=r"there is no image in it; left out: .*\(\.heic\)"):
        find([tmp_path])


def test_images_above_the_limit_are_left_out_with_the_option_that_raises_it(tmp_path):
    paths = [str(write_image(tmp_path / name)) for name in ("a.png", "b.jpg")]
    try:
        limit(80)
        (unreadable,) = [unreadable for _, _, unreadable in batches(paths, read_rgb, 2)]
        assert [one.reason for one in unreadable] == ["it has 81 pixels; --max-pixels 81 reads it"] * 2
        limit(81)
        assert [rows for rows, _, _ in batches(paths, read_rgb, 2)] == [[0, 1]]
    finally:
        limit(None)
