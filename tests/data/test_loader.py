"""Loader workers: no batch is lost, whatever fails in them, and only the run ends them."""

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from processes import children, lives
from tiny_run import TINY_PHOTOS

from densenet_cli.data.loader import LazyLoader
from densenet_cli.options import UserError

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
NO_ROOM = "unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)"


class Numbers:
    """Item n is a batch of one image and its label, both n; item 13 cannot be read."""

    def __init__(self, error=None):
        self.error = error

    def __getitem__(self, number):
        if number == 13:
            raise self.error
        return torch.full((1, 2, 2, 3), number, dtype=torch.uint8), torch.tensor([number])


def loader(items, workers=1, said=None, split=None):
    return LazyLoader(split or Numbers(), items, workers, set() if said is None else said)


def labels(batches):
    return [int(label) for image, label in batches if (image == label).all()]


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_order(workers):
    assert labels(loader(range(5), workers)) == [0, 1, 2, 3, 4]


def test_without_shared_memory_batches_come_through_pipes(monkeypatch, caplog):
    def share_memory_(_):
        raise RuntimeError(NO_ROOM)

    monkeypatch.setattr(torch.Tensor, "share_memory_", share_memory_)  # workers are forked with it
    said = set()
    for _ in range(2):
        assert labels(loader(range(5), said=said)) == [0, 1, 2, 3, 4]
    (message,) = caplog.messages
    assert "No space left on device" in message
    assert "--shm-size=" in message
    assert "data.num_workers=" in message
    assert "torch_1" not in message


def test_workers_that_cannot_be_started_are_reported(monkeypatch):
    def queue():
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(multiprocessing, "Queue", queue)
    with pytest.raises(UserError, match=r"data\.num_workers=1: loader workers cannot be started: No"):
        next(iter(loader(range(5))))


def test_a_users_error_is_shown_as_it_is():
    with pytest.raises(UserError, match=r"^13\.png cannot be read$"):
        list(loader([12, 13], split=Numbers(UserError("13.png cannot be read"))))


def test_another_error_is_one_line_and_its_traceback_is_kept():
    class Unpicklable(Exception):
        def __reduce__(self):
            raise TypeError

    with pytest.raises(RuntimeError) as told:
        list(loader([12, 13], split=Numbers(Unpicklable("of its own kind"))))
    assert str(told.value) == "in a loader worker: Unpicklable: of its own kind"
    assert "in __getitem__" in str(told.value.__cause__)


WORDS = [*TINY_PHOTOS, "hydra.run.dir=outputs/mine"]


def test_a_broken_image_is_one_line_and_is_recorded(photos, typed, tmp_path):
    for path in photos.glob("cat/*"):
        path.write_bytes(path.read_bytes()[:100])
    status, message = typed(*WORDS, "epochs=1", "data.check=false")
    assert status == 1
    error = json.loads((tmp_path / "outputs/mine/run.json").read_text())["error"]
    assert message == f"densenet-run: {error}\n"
    assert error.startswith("photos/cat/")
    assert error.count("\n") == 0


@pytest.mark.slow
@LINUX
@pytest.mark.usefixtures("photos")
def test_workers_ignore_a_signal_to_all_processes_of_a_run(tmp_path):
    process = _begun(tmp_path, *WORDS, "epochs=300")
    os.killpg(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143, said
    assert said == "densenet-run: interrupted; resume with: densenet-run resume=outputs/mine\n"
    assert (tmp_path / "outputs/mine/checkpoints/last.ckpt").exists()


@pytest.mark.slow
@LINUX
@pytest.mark.usefixtures("photos")
def test_loader_workers_end_with_a_run_that_is_killed(tmp_path):
    """Also those that are stuck: they are stopped here, as by a disk that does not answer."""
    process = _begun(tmp_path, *WORDS, "epochs=300")
    started = children(process.pid)
    assert len(started) >= 2
    for child in started:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGSTOP)
    process.kill()
    process.communicate(timeout=60)
    deadline = time.monotonic() + 60
    while any(map(lives, started)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _begun(folder, *words):
    """densenet-run in a session of its own, with an epoch behind it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "densenet_cli.commands.run", *words],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not (folder / "outputs/mine/metrics.csv").exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


@LINUX
@pytest.mark.usefixtures("photos")
def test_a_run_works_in_a_container_with_little_shared_memory(tmp_path):
    """A private /dev/shm of 128 KiB: four batches of two workers do not fit, nor need they."""
    alone = [shutil.which("unshare") or "unshare", "--map-root-user", "--mount"]
    mount = "mount -t tmpfs -o size=128k tmpfs /dev/shm"
    if subprocess.run([*alone, "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    words = [sys.executable, "-m", "densenet_cli.commands.run", *WORDS]
    words += ["epochs=1", "data.image_size=64", "data.batch_size=8"]
    answer = subprocess.run(
        [*alone, "sh", "-c", f'{mount} && exec "$@"', "-", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert answer.returncode == 0, answer.stderr
    assert "shared memory" not in answer.stderr
    assert "Traceback" not in answer.stderr
