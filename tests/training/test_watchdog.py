"""A run that stands still warns, and then stops at a signal without waiting for the step's end."""

import json
import os
import signal
import threading
import time

import pytest
from tiny_run import TINY, TINY_PHOTOS

from densenet_cli.data.photo_split import PhotoSplit
from densenet_cli.training import watchdog
from densenet_cli.training.classifier import ImageClassifier
from densenet_cli.training.interruption import Interrupted, Interruption

FOLDER = "hydra.run.dir=outputs/mine"


@pytest.fixture(autouse=True)
def _short_limits(monkeypatch):
    monkeypatch.setattr(watchdog, "CHECK_S", 0.05)
    monkeypatch.setattr(watchdog, "LEAST_S", 1.0)


def _log(folder):
    path = folder / "outputs/mine/run.log"
    return path.read_text() if path.exists() else ""


def test_a_step_that_takes_much_longer_than_those_before_is_reported(typed, monkeypatch, tmp_path):
    step = ImageClassifier.training_step

    def slow_step(module, batch, batch_idx):
        if batch_idx == 12:
            deadline = time.monotonic() + 60
            while "no step has ended" not in _log(tmp_path):
                assert time.monotonic() < deadline
                time.sleep(0.05)
        return step(module, batch, batch_idx)

    monkeypatch.setattr(ImageClassifier, "training_step", slow_step)
    status, stderr = typed(*TINY, "epochs=1", FOLDER)
    assert status == 0, stderr
    assert "densenet-run: no step has ended for " in stderr
    assert "training is stuck in slow_step, see run.log" in stderr
    assert "training continues" in stderr
    assert "in slow_step\n" in _log(tmp_path)  # the whole stack


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize("is_late", [True, False], ids=["signal-after-the-warning", "signal-before"])
def test_a_signal_stops_a_run_whose_loader_workers_are_stuck(is_late, typed, monkeypatch, tmp_path):
    image, metrics = PhotoSplit._image, tmp_path / "outputs/mine/metrics.csv"

    def stuck_image(split, index, draw):
        while metrics.exists():  # once an epoch is over
            time.sleep(0.1)
        return image(split, index, draw)

    def send():
        deadline = time.monotonic() + 60
        while "no step has ended" not in _log(tmp_path) if is_late else not metrics.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(PhotoSplit, "_image", stuck_image)  # workers are forked with it
    sender = threading.Thread(target=send)
    sender.start()
    status, stderr = typed(*TINY_PHOTOS, "epochs=5000", FOLDER)
    sender.join()
    assert status == 143, stderr
    if is_late:
        assert "training waits for its loader workers" in stderr
    assert json.loads((tmp_path / "outputs/mine/run.json").read_text())["state"] == "interrupted"


def test_a_stored_signal_stops_the_run_once_the_step_is_known_to_be_stuck():
    with Interruption() as interruption:
        interruption.defer()
        os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.signum == signal.SIGTERM
        with pytest.raises(Interrupted):
            interruption.stall()
        interruption.stalled = False
        os.kill(os.getpid(), signal.SIGTERM)  # is only stored
