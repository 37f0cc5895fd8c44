"""A folder is locked by one process at a time, and the lock of a dead process does not count."""

import gc
import multiprocessing
import os
import shutil
import subprocess
import sys
import time

import pytest

from densenet_cli.files.atomic_file import replace_by_link, replace_file
from densenet_cli.files.lock import LEASE_S, FolderInUse, LockLost, is_locked, lock_folder

OWNER = (
    "import time, pathlib\n"
    "from densenet_cli.files.lock import lock_folder\n"
    "with lock_folder(pathlib.Path('.')): print('locked', flush=True); time.sleep(60)\n"
)


@pytest.fixture
def owner(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", OWNER], cwd=tmp_path, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"locked\n"
    yield process
    process.kill()
    process.wait()


def test_only_one_process_locks_a_folder(owner, tmp_path):
    assert is_locked(tmp_path)
    with pytest.raises(FolderInUse, match="is in use"), lock_folder(tmp_path):
        pass


def test_the_lock_of_a_killed_process_is_free(owner, tmp_path):
    owner.kill()
    owner.wait()
    assert not is_locked(tmp_path)  # although its last heartbeat is recent
    with lock_folder(tmp_path):
        assert is_locked(tmp_path)
    assert not is_locked(tmp_path)


def test_a_process_that_died_while_it_took_the_lock_does_not_have_it(tmp_path):
    (tmp_path / ".alive").write_text("filelock/2\npid=")
    with lock_folder(tmp_path):
        assert is_locked(tmp_path)


def _look_like_another_machine(owner, folder):
    """As with a process on another machine, and a file system that passes no locks between machines."""
    text = (folder / ".alive").read_text()
    owner.kill()
    owner.wait()
    host = next(line for line in text.splitlines() if line.startswith("host="))
    (folder / ".alive").write_text(text.replace(host, "host=elsewhere"))
    (folder / ".lock").unlink()


def test_the_lock_of_another_machine_counts_while_its_heartbeat_is_recent(owner, tmp_path):
    _look_like_another_machine(owner, tmp_path)
    with pytest.raises(FolderInUse), lock_folder(tmp_path):
        pass
    past = time.time() - LEASE_S - 1
    os.utime(tmp_path / ".alive", (past, past))
    with lock_folder(tmp_path):
        assert is_locked(tmp_path)


def test_a_lock_outlives_the_processes_that_read_data(tmp_path):
    with lock_folder(tmp_path):
        reader = multiprocessing.get_context("fork").Process(target=gc.collect)
        reader.start()
        reader.join()
        assert is_locked(tmp_path)
        code = "from densenet_cli.files.lock import *; lock_folder(Path('.')).__enter__()"
        answer = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True)
        assert b"FolderInUse" in answer.stderr


def _take_over(folder):
    """What another machine does if it has seen no heartbeat for a minute."""
    (folder / ".alive").unlink()
    text = "filelock/2\npid=1\nhost=elsewhere\nmode=lease\ntoken=another\nduration=60.0\n"
    (folder / ".alive").write_text(text)


def test_a_process_that_lost_its_lock_writes_nothing(tmp_path):
    with lock_folder(tmp_path) as check:
        replace_file(tmp_path / "run.json", "ours")
        replace_file(tmp_path / "checkpoints/best.ckpt", "ours")
        check()
        _take_over(tmp_path)
        with pytest.raises(LockLost, match="no longer locked"):
            check()
        with pytest.raises(LockLost):
            replace_file(tmp_path / "run.json", "too late")
        with pytest.raises(LockLost):
            replace_by_link(tmp_path / "run.json", tmp_path / "checkpoints/best.ckpt")
        with pytest.raises(LockLost):
            replace_file(tmp_path / "checkpoints/new/last.ckpt", "too late")
    assert (tmp_path / "run.json").read_text() == "ours"
    assert (tmp_path / "checkpoints/best.ckpt").read_text() == "ours"
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted(
        [".alive", ".lock", "best.ckpt", "checkpoints", "run.json"]
    )
    assert "another" in (tmp_path / ".alive").read_text()  # the new owner keeps its lock
    replace_file(tmp_path / "run.json", "new")  # a folder that is not locked has no guard


def test_a_lock_lost_while_a_file_is_written_keeps_the_file_of_the_other_process(tmp_path):
    def slowly(file):
        file.write(b"too late")
        _take_over(tmp_path)
        (tmp_path / "run.json").write_text("theirs")

    with lock_folder(tmp_path), pytest.raises(LockLost):
        replace_file(tmp_path / "run.json", slowly)
    assert (tmp_path / "run.json").read_text() == "theirs"


def test_a_deleted_folder_is_not_created_again(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    with lock_folder(folder):
        shutil.rmtree(folder)
        with pytest.raises(LockLost, match="run is gone: it was deleted or moved"):
            replace_file(folder / "checkpoints/last.ckpt", "too late")
    assert not folder.exists()
