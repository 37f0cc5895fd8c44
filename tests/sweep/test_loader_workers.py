"""Sweeps of every kind whose runs start loader workers (processes that read images)."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from processes import children, lives
from tiny_run import TINY_PHOTOS

WORDS = ["--multirun", *TINY_PHOTOS, "epochs=1", "sweep.name=mine"]
SEARCH = ["hydra/sweeper=optuna", "hydra.sweeper.trials=2", "data.validation=4"]
SEARCH += ["recipe.optimizer.lr=interval(0.01,0.1)"]


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["seed=0,1"], id="sweep"),
        pytest.param(
            [*SEARCH, "hydra/launcher=parallel", "hydra.launcher.jobs=1"],
            id="search",
            marks=pytest.mark.slow,
        ),
        pytest.param(["seed=0,1", "hydra/launcher=parallel"], id="parallel", marks=pytest.mark.slow),
        pytest.param(["seed=0,1", "hydra/launcher=joblib"], id="joblib", marks=pytest.mark.slow),
        pytest.param(
            ["seed=0,1", "hydra/launcher=submitit_local"], id="submitit", marks=pytest.mark.slow
        ),
        pytest.param(["seed=0,1", "trainer=ddp_cpu"], id="ddp", marks=pytest.mark.slow),
    ],
)
def test_loader_workers_read_the_images_of_a_sweep(words, command, tmp_path):
    answer = command(*WORDS, *words)
    assert answer.returncode == 0, answer.stderr
    records = [json.loads(path.read_text()) for path in tmp_path.glob("outputs/mine/*/run.json")]
    assert [record["state"] for record in records] == ["done", "done"]
    assert all(record["config"]["data"]["num_workers"] == 2 for record in records)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize(
    "words",
    [
        pytest.param([], id="sweep", marks=pytest.mark.slow),
        pytest.param(["trainer=ddp_cpu"], id="ddp", marks=pytest.mark.slow),
        pytest.param(["hydra/launcher=parallel"], id="parallel", marks=pytest.mark.slow),
        pytest.param(["hydra/launcher=joblib"], id="joblib", marks=pytest.mark.slow),
        pytest.param(["hydra/launcher=submitit_local"], id="submitit", marks=pytest.mark.slow),
    ],
)
def test_sigterm_ends_a_sweep_whose_loader_workers_are_stuck(words, tmp_path):
    """SIGSTOP stops them like a disk that does not answer: they do not react even to SIGTERM."""
    process = _sweep(tmp_path, *words)
    (first, *_) = _wait_for(lambda: list(tmp_path.glob("outputs/mine/*/metrics.csv")))
    record = first.with_name("run.json")
    pid = json.loads(record.read_text())["pid"]
    started = children(pid)
    assert len(started) >= 2
    for child in started:
        os.kill(child, signal.SIGSTOP)
    process.send_signal(signal.SIGTERM)
    sent = time.monotonic()
    said, _ = process.communicate(timeout=60)
    assert time.monotonic() - sent < 15  # ten seconds, and some more for a busy machine
    assert process.returncode == 143, said
    if "hydra/launcher=submitit_local" not in words:  # which has its own logs
        assert "was killed; it resumes from its last checkpoint" in said
    assert json.loads(record.read_text())["state"] == "interrupted"
    _wait_for(lambda: not any(map(lives, [pid, *started])))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_the_runs_of_a_launcher_end_when_the_command_is_killed(launcher, tmp_path):
    process = _sweep(tmp_path, f"hydra/launcher={launcher}")
    (first, *_) = _wait_for(lambda: list(tmp_path.glob("outputs/mine/*/metrics.csv")))
    record = first.with_name("run.json")
    pid = json.loads(record.read_text())["pid"]
    process.kill()
    process.wait()
    process.stdout.close()  # joblib's processes keep it open for some minutes, idle
    _wait_for(lambda: not lives(pid))
    _wait_for(lambda: json.loads(record.read_text())["state"] == "interrupted")  # and saved


def _sweep(folder, *words):
    return subprocess.Popen(
        [sys.executable, "-m", "densenet_cli.commands.run", *WORDS, "epochs=5000", "seed=0,1", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _wait_for(found):
    deadline = time.monotonic() + 120
    while not (what := found()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return what
