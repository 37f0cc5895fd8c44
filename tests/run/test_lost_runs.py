"""A run that has lost its lock, or whose folder was deleted, writes nothing more."""

import hashlib
import json
import signal
import subprocess
import sys
import time

import pytest
from tiny_run import TINY

from densenet_cli.config.compose import composing
from densenet_cli.files.lock import lock_folder
from densenet_cli.sweep import jobs

RUN = "outputs/run"


def _digests(folder):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


@pytest.fixture
def started(tmp_path):
    """Start a run, and wait for a file in its folder."""
    processes = []

    def start(*overrides, once, folder=RUN):
        process = subprocess.Popen(
            [sys.executable, "-m", "densenet_cli.commands.run", *TINY, "epochs=9", *overrides],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        deadline = time.monotonic() + 120
        while not (tmp_path / folder / once).exists():
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline, f"{once} never came"
            time.sleep(0.02)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    "moment", ["training", pytest.param("before training", marks=pytest.mark.slow)]
)
def test_a_stopped_run_that_another_process_has_finished_writes_nothing(
    moment, started, typed, tmp_path
):
    once = {"training": "metrics.csv", "before training": "run.json"}[moment]
    process = started(f"hydra.run.dir={RUN}", once=once)
    process.send_signal(signal.SIGSTOP)
    folder = tmp_path / RUN
    # Another machine, which does not see the lock, considers the run dead after a minute.
    (folder / ".lock").unlink()
    (folder / ".alive").unlink()
    status, message = typed(f"resume={RUN}")
    assert status == 0, message
    assert json.loads((folder / "run.json").read_text())["state"] == "done"
    before = _digests(folder)
    process.send_signal(signal.SIGCONT)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 1, stderr
    assert f"{RUN} is no longer locked by this run: another process took it over" in stderr
    assert stderr.count("\n") == 1
    assert _digests(folder) == before


def test_a_run_whose_folder_is_deleted_fails(started, tmp_path):
    process = started(f"hydra.run.dir={RUN}", once="metrics.csv")
    (tmp_path / RUN).rename(tmp_path / "deleted")
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 1, stderr
    assert f"{RUN} is gone: it was deleted or moved during the run" in stderr
    assert stderr.count("\n") == 1
    assert not (tmp_path / RUN).exists()


@pytest.mark.slow
def test_a_sweep_names_the_run_whose_folder_was_deleted(started, tmp_path):
    first, second = (f"outputs/mine/seed={seed}" for seed in (0, 1))
    process = started("--multirun", "seed=0,1", "sweep.name=mine", folder=first, once="metrics.csv")
    (tmp_path / first).rename(tmp_path / "deleted")
    table, stderr = process.communicate(timeout=240)
    assert process.returncode == 1, stderr
    assert "seed=0 failed: its folder was deleted or moved during the run" in table
    assert not (tmp_path / first).exists()
    assert json.loads((tmp_path / second / "run.json").read_text())["state"] == "done"


def test_the_next_run_of_a_folder_removes_partial_files_of_a_dead_process(typed, tmp_path):
    assert typed(*TINY, "epochs=1", f"hydra.run.dir={RUN}")[0] == 0
    folder = tmp_path / RUN
    halves = [".run.json.partial-77", "checkpoints/.last.ckpt.partial-00ff00ff"]
    figure = (
        folder / ".reuse.svg.partial-00ff00ff"
    )  # written by a process that need not hold the folder
    for half in [*(folder / name for name in halves), figure]:
        half.write_text("half")
    with lock_folder(folder):  # a process that holds it may be writing just these
        assert typed(f"resume={RUN}")[0] == 1
        assert all((folder / name).exists() for name in halves)
    assert typed(f"resume={RUN}")[0] == 0
    assert not any((folder / name).exists() for name in halves)
    assert figure.exists()


def test_the_next_sweep_of_a_folder_removes_partial_files_of_a_dead_process(tmp_path):
    half = tmp_path / "outputs/mine/.sweep.yaml.partial-00ff00ff"
    half.parent.mkdir(parents=True)
    half.write_text("half")
    with composing():
        jobs.save_sweep(jobs.compose_sweep([*TINY, "sweep.name=mine", "seed=0,1"]))
    assert [path.name for path in half.parent.iterdir() if path.name != ".lock"] == ["sweep.yaml"]
