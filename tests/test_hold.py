"""A folder is held by one process, and by none that is dead."""

import gc
import multiprocessing
import os
import subprocess
import sys
import time

import pytest

from densenet_cli.hold import LEASE_S, InUse, hold, is_held

HOLDER = (
    "import time, pathlib\n"
    "from densenet_cli.hold import hold\n"
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
    with hold(tmp_path):
        assert is_held(tmp_path)
    assert not is_held(tmp_path)


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
        code = (
            "from densenet_cli.hold import hold; from pathlib import Path; hold(Path('.')).__enter__()"
        )
        answer = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True)
        assert b"InUse" in answer.stderr
