"""How the processes of a run are started, and variables of other launches in the environment."""

import json
import os
import subprocess
import sys

import pytest
from tiny_run import TINY

from densenet_cli.process import ranks

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "mine",
    "RANK": "1",
    "WORLD_SIZE": "2",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "29500",
}
SRUN = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_ID": "0",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "0",
}


def _without(environment, name):
    return {key: value for key, value in environment.items() if key != name}


@pytest.mark.parametrize(
    ("environment", "launcher"),
    [
        (TORCHRUN, "torchrun"),
        (SRUN, "srun"),
        (SRUN | TORCHRUN, "torchrun"),
        # srun typed in the shell of an interactive job
        (SRUN | {"SLURM_JOB_NAME": "interactive", "SLURM_STEP_NUM_TASKS": "2"}, "srun"),
        ({}, None),
        (SRUN | {"SLURM_NTASKS": "1"}, None),
        # that shell itself
        (SRUN | {"SLURM_JOB_NAME": "bash"}, None),
        (SRUN | {"SLURM_JOB_NAME": "interactive", "SLURM_STEP_ID": "4294967290"}, None),
        (SRUN | {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PTY_PORT": "4000"}, None),
        *((_without(TORCHRUN, name), None) for name in TORCHRUN),
        *((_without(SRUN, name), None) for name in SRUN),
        (TORCHRUN | {"RANK": "one"}, None),
    ],
)
def test_a_launch_is_recognised_only_by_all_of_its_variables(environment, launcher, monkeypatch):
    monkeypatch.setattr(os, "environ", dict(environment))
    assert ranks.launcher() == launcher
    ranks.forget((*ranks.RANKS, *ranks.NODES), os.environ)
    assert ranks.global_rank() == (0 if launcher is None else 1)
    assert ranks.restarted() is False


@pytest.mark.parametrize(
    "left",
    [
        TORCHRUN | {"NODE_RANK": "1", "MASTER_ADDR": "10.255.255.1", "TORCHELASTIC_RUN_ID": ""},
        pytest.param(SRUN | {"SLURM_JOB_NAME": "bash"}, marks=pytest.mark.slow),
        pytest.param({"LOCAL_RANK": "x", "JSM_NAMESPACE_RANK": "1"}, marks=pytest.mark.slow),
    ],
    ids=["ranks", "slurm", "others"],
)
@pytest.mark.parametrize(
    "arguments",
    [
        [],
        pytest.param(["--multirun", "sweep.name=sweep"], marks=pytest.mark.slow),
        pytest.param(["trainer=ddp_cpu"], marks=pytest.mark.slow),
        pytest.param(["--multirun", "hydra/launcher=joblib"], marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_ranks_left_in_a_shell_change_no_run(left, arguments, command, tmp_path):
    left = {name: value for name, value in left.items() if value}
    answer = command(*TINY, "epochs=1", *arguments, **left)
    assert answer.returncode == 0, answer.stderr
    assert "epoch 1/1" in answer.stdout
    (path,) = tmp_path.glob("outputs/**/run.json")
    record = json.loads(path.read_text())
    assert (record["state"], record["processes"]) == (
        "done",
        2 if "trainer=ddp_cpu" in arguments else 1,
    )
    files = {"run.json", "config.yaml", "overrides.yaml", "metrics.csv", "run.log", "checkpoints"}
    assert {one.name for one in path.parent.iterdir()} - {".lock"} == files
    assert "slurm" not in str(path)


@pytest.mark.slow
def test_srun_starts_the_processes_of_one_run(tmp_path):
    started = []
    for rank in ("0", "1"):
        environment = {**os.environ, **SRUN, "SLURM_PROCID": rank, "SLURM_LOCALID": rank}
        environment |= {"SLURM_NTASKS_PER_NODE": "2", "SLURM_NODELIST": "127.0.0.1"}
        arguments = [sys.executable, "-m", "densenet_cli.commands.run", *TINY, "trainer=ddp_cpu"]
        started.append(subprocess.Popen(arguments, env=environment))
    assert [process.wait(240) for process in started] == [0, 0]
    record = json.loads((tmp_path / "outputs/slurm-7-0/run.json").read_text())
    assert (record["state"], record["processes"]) == ("done", 2)
