"""A folder is held by one process, and by none that is dead."""

import gc
import multiprocessing
import os
import shutil
import subprocess
import sys
import time

import pytest

from densenet_cli.files.atomic_file import replace_by_link, replace_file
from densenet_cli.files.lock import LEASE_S, InUse, Lost, hold, is_held

HOLDER = (
    "import time, pathlib\n"
    "from densenet_cli.files.lock import hold\n"
    "with hold(pathlib.Path('.')): print('held', flush=True); time.sleep(60)\n"
)


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLDER], cwd=tmp_path, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()


def test_only_one_process_holds_a_folder(holder, tmp_path):
    assert is_held(tmp_path)
    with pytest.raises(InUse, match="in use by a run"), hold(tmp_path):
        pass


def test_a_killed_process_holds_nothing(holder, tmp_path):
    holder.kill()
    holder.wait()
    assert not is_held(tmp_path)  # though its last sign of life is fresh
    with hold(tmp_path):
        assert is_held(tmp_path)
    assert not is_held(tmp_path)


def test_a_process_that_died_as_it_took_the_folder_holds_nothing(tmp_path):
    (tmp_path / ".alive").write_text("filelock/2\npid=")
    with hold(tmp_path):
        assert is_held(tmp_path)


def _leave_sign_of_another_machine(holder, folder):
    """What a process on another machine leaves where locks of the system do not pass between them."""
    text = (folder / ".alive").read_text()
    holder.kill()
    holder.wait()
    host = next(line for line in text.splitlines() if line.startswith("host="))
    (folder / ".alive").write_text(text.replace(host, "host=elsewhere"))
    (folder / ".lock").unlink()


def test_a_process_on_another_machine_is_heeded_while_it_gives_signs_of_life(holder, tmp_path):
    _leave_sign_of_another_machine(holder, tmp_path)
    with pytest.raises(InUse), hold(tmp_path):
        pass
    past = time.time() - LEASE_S - 1
    os.utime(tmp_path / ".alive", (past, past))
    with hold(tmp_path):
        assert is_held(tmp_path)


def test_a_hold_outlives_the_processes_that_read_data(tmp_path):
    with hold(tmp_path):
        reader = multiprocessing.get_context("fork").Process(target=gc.collect)
        reader.start()
        reader.join()
        assert is_held(tmp_path)
        code = "from densenet_cli.files.lock import *; hold(Path('.')).__enter__()"
        answer = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True)
        assert b"InUse" in answer.stderr


def _take_over(folder):
    """What another machine does once it has seen no sign of life for a minute."""
    (folder / ".alive").unlink()
    text = "filelock/2\npid=1\nhost=elsewhere\nmode=lease\ntoken=another\nduration=60.0\n"
    (folder / ".alive").write_text(text)


def test_what_was_taken_over_is_not_written(tmp_path):
    with hold(tmp_path) as check:
        replace_file(tmp_path / "run.json", "ours")
        replace_file(tmp_path / "checkpoints/best.ckpt", "ours")
        check()
        _take_over(tmp_path)
        with pytest.raises(Lost, match="no longer held"):
            check()
        with pytest.raises(Lost):
            replace_file(tmp_path / "run.json", "too late")
        with pytest.raises(Lost):
            replace_by_link(tmp_path / "run.json", tmp_path / "checkpoints/best.ckpt")
        with pytest.raises(Lost):
            replace_file(tmp_path / "checkpoints/new/last.ckpt", "too late")
    assert (tmp_path / "run.json").read_text() == "ours"
    assert (tmp_path / "checkpoints/best.ckpt").read_text() == "ours"
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted(
        [".alive", ".lock", "best.ckpt", "checkpoints", "run.json"]
    )
    assert "another" in (tmp_path / ".alive").read_text()  # not released for the new holder
    replace_file(tmp_path / "run.json", "new")  # a folder that is not held has no guard


def test_a_loss_while_a_file_is_written_keeps_the_other_process_file(tmp_path):
    def slowly(file):
        file.write(b"too late")
        _take_over(tmp_path)
        (tmp_path / "run.json").write_text("theirs")

    with hold(tmp_path), pytest.raises(Lost):
        replace_file(tmp_path / "run.json", slowly)
    assert (tmp_path / "run.json").read_text() == "theirs"


def test_a_deleted_folder_does_not_come_back(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    with hold(folder):
        shutil.rmtree(folder)
        with pytest.raises(Lost, match="run is gone: it was deleted or moved"):
            replace_file(folder / "checkpoints/last.ckpt", "too late")
    assert not folder.exists()
