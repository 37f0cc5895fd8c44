"""Runs started by a real SLURM of one machine: srun, sbatch --requeue, salloc, submitit."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import slurm
import torch
from tiny_run import TINY

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(slurm.missing() is not None, reason=f"{slurm.missing()} is not installed"),
]
RUN = [str(Path(sys.executable).with_name("densenet-run"))]
LONG = [*TINY, "trainer=slurm", "trainer.accelerator=cpu", "epochs=12", "checkpoint_minutes=0.0001"]


@pytest.fixture(scope="module", autouse=True)
def _slurm(tmp_path_factory):
    with slurm.running(tmp_path_factory.mktemp("slurm") / "one"):
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The weights of a run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    subprocess.run(["srun", "-n2", *RUN, *LONG, "hydra.run.dir=run"], cwd=folder, check=True)
    return _weights(folder / "run")


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]


def _said(*command: str) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)


def _submit(*arguments: str, tasks: int = 2) -> str:
    """Submit a batch job that starts processes of densenet-run; its number."""
    command = " ".join(["srun", f"-n{tasks}", *RUN, *arguments])
    words = (
        "sbatch",
        "--parsable",
        "--requeue",
        f"-n{tasks}",
        "--output=job.log",
        "--open-mode=append",
    )
    answer = _said(*words, f"--wrap={command}")
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.strip()


def _wait(path: Path, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came: {_log()}"
        time.sleep(0.05)


def _log() -> str:
    return Path("job.log").read_text() if Path("job.log").exists() else "no log"


def _record(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())


def _wait_until_done(job: str, folder: Path, seconds: float = 240) -> dict:
    """The record of a run, once it is done. SLURM lets a requeued job wait for a minute or two."""
    deadline = time.monotonic() + seconds
    while not (folder / "run.json").exists() or _record(folder)["state"] != "done":
        queue = _said("squeue", "--noheader", "--format=%T %r", f"--jobs={job}").stdout
        state = f"{queue}\n{_log()}"
        assert time.monotonic() < deadline, state
        time.sleep(0.5)
    return _record(folder)


def _equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("job", [[], ["salloc", "--quiet", "-n2", "-J", "interactive"]], ids=len)
def test_srun_starts_a_run_also_in_an_interactive_job(job, tmp_path):
    tasks = [] if job else ["-n2"]
    answer = _said(*job, "srun", *tasks, *RUN, *TINY, "trainer=slurm", "trainer.accelerator=cpu")
    assert answer.returncode == 0, answer.stderr
    (folder,) = (tmp_path / "outputs").iterdir()
    record = _record(folder)
    assert (record["state"], record["processes"]) == ("done", 2)


def test_a_job_that_is_requeued_has_the_weights_of_one_that_is_not(whole, tmp_path):
    job = _submit(*LONG)
    folder = tmp_path / f"outputs/slurm-{job}-0"
    _wait(folder / "checkpoints/last.ckpt")
    assert _said("scontrol", "requeue", job).returncode == 0
    assert _wait_until_done(job, folder)["resumed"] == 1
    assert _equal(_weights(folder), whole)


@pytest.mark.parametrize("seconds", [1, 2, 3, 4, 6, 9])
def test_sigusr1_saves_and_requeues_at_any_moment(seconds, whole, tmp_path):
    job = _submit(*LONG)
    folder = tmp_path / f"outputs/slurm-{job}-0"
    _wait(Path("job.log"))
    time.sleep(seconds)
    _said("scancel", "--signal=USR1", f"{job}.0")
    _wait_until_done(job, folder)
    assert _equal(_weights(folder), whole)


def test_sigusr1_requeues_a_run_of_one_process(tmp_path):
    words = [*TINY, "epochs=30", "checkpoint_minutes=0.0001", "trainer.precision=32-true"]
    job = _submit(*words, tasks=1)
    folder = tmp_path / f"outputs/slurm-{job}-0"
    _wait(folder / "checkpoints/last.ckpt")
    _said("scancel", "--signal=USR1", f"{job}.0")
    assert _wait_until_done(job, folder)["resumed"] == 1
    assert _said(*RUN, *words, "hydra.run.dir=whole").returncode == 0
    assert _equal(_weights(folder), _weights(tmp_path / "whole"))


def test_submitit_runs_the_jobs_of_a_sweep(tmp_path):
    launcher = ["hydra/launcher=submitit_slurm", "hydra.launcher.timeout_min=5"]
    launcher += ["hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=null"]
    words = [*TINY, "epochs=1", "seed=0,1", "sweep.name=sweep"]
    answer = _said(*RUN, "--multirun", *launcher, *words)
    assert answer.returncode == 0, answer.stderr
    for seed in (0, 1):
        assert _record(tmp_path / f"outputs/sweep/seed={seed}")["state"] == "done"
