"""seeds=until_decided as a user types it: broken off, resumed, and shared by two processes."""

import json
import signal
import subprocess
import sys
import time

import pytest
from tiny_run import TINY

WORDS = [
    "--multirun",
    *TINY,
    "epochs=3",
    "model.growth_rate=4,5,12",
    "seeds=until_decided",
    "sweep.baseline=model.growth_rate=4",
    "sweep.most_seeds=4",
    "sweep.name=mine",
    "hydra/launcher=parallel",
    "hydra.launcher.jobs=2",
]


def _start(folder):
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "densenet_cli.commands.run", *WORDS],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _verdicts(said):
    """The rows of the last table, one for each setting."""
    table = said[said.index("mean test error") :]
    return [line for line in table.splitlines() if line.strip().startswith("growth_rate=")]


def _errors(folder):
    paths = folder.glob("outputs/mine/*/run.json")
    records = {path.parent.name: json.loads(path.read_text()) for path in paths}
    assert {record["state"] for record in records.values()} == {"done"}
    return {name: record["results"]["test_error"] for name, record in records.items()}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_sweep_broken_off_and_one_shared_by_two_processes_decide_alike(tmp_path):
    """The first gets SIGTERM in its second round and is typed again; the other is typed twice."""
    process = _start(tmp_path / "broken")
    while not list(tmp_path.glob("broken/outputs/mine/*seed=3/run.json")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.terminate()
    process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    process = _start(tmp_path / "broken")
    resumed = process.communicate(timeout=240)[0]
    assert process.returncode == 0, resumed
    both = [_start(tmp_path / "shared") for _ in range(2)]
    said = [process.communicate(timeout=400)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    errors = _errors(tmp_path / "broken")
    assert 9 < len(errors) <= 12
    assert errors == _errors(tmp_path / "shared")
    assert len(_verdicts(resumed)) == 3
    assert _verdicts(resumed) == _verdicts(said[0]) == _verdicts(said[1])
