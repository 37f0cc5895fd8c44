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
    files = {
        "run.json",
        "config.yaml",
        "overrides.yaml",
        "metrics.csv",
        "run.log",
        "checkpoints",
        "outcomes.json",
    }
    assert {one.name for one in path.parent.iterdir()} - {".lock"} == files
    assert "slurm" not in str(path)


def test_a_single_task_of_srun_has_a_name_and_a_script_in_it_none(monkeypatch):
    for started, name in ((os.getpid(), "slurm-7-0"), (1, None)):
        monkeypatch.setattr(os, "environ", SRUN | {"SLURM_NTASKS": "1", "SLURM_TASK_PID": str(started)})
        ranks.forget((*ranks.RANKS, *ranks.NODES), os.environ)
        assert ranks.launch_id() == name
        assert ranks.is_task_of_srun() is (name is not None)
        assert ranks.launcher() is None


def _srun(*arguments, job="7"):
    """Start two processes as srun would; both."""
    started = []
    for rank in ("0", "1"):
        environment = {**os.environ, **SRUN, "SLURM_PROCID": rank, "SLURM_LOCALID": rank}
        environment |= {"SLURM_NODELIST": "127.0.0.1", "SLURM_JOB_ID": job}
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "densenet_cli.commands.run", *arguments],
                env=environment,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return started


@pytest.mark.slow
def test_srun_starts_the_processes_of_one_run(tmp_path):
    for process in _srun(*TINY, "trainer=slurm", "trainer.accelerator=cpu"):
        _, said = process.communicate(timeout=240)
        assert process.returncode == 0, said
    record = json.loads((tmp_path / "outputs/slurm-7-0/run.json").read_text())
    assert (record["state"], record["processes"]) == ("done", 2)


FAILING = '''
import os
import time
import torch
from torch import nn

class Failing(nn.Module):
    """Fails in the second process at its third step; `how` is an error, a loss of NaN, or a signal."""
    def __init__(self, num_classes, how):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(192, num_classes))
        self.how, self.calls = how, 0

    def forward(self, images):
        self.calls += 1
        logits = self.layers(images)
        if self.calls != 3:
            return logits
        if os.environ["SLURM_PROCID"] == "0" and self.how == "error":
            time.sleep(600)  # in nobody's reach, as in a collective operation of NCCL
        if os.environ["SLURM_PROCID"] == "1":
            if self.how == "error":
                raise RuntimeError("the second process fails on purpose")
            return logits * torch.nan
        return logits
'''


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("error", "process 1: RuntimeError: the second process fails on purpose"),
        ("nan", "process 1: the loss is nan"),
    ],
)
@pytest.mark.slow
def test_a_process_that_fails_alone_ends_the_others(how, error, tmp_path, monkeypatch):
    (tmp_path / "failing.py").write_text(FAILING)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "mine/model").mkdir(parents=True)
    (tmp_path / "mine/model/failing.yaml").write_text("_target_: failing.Failing\nhow: error\n")
    words = ["--config-dir=mine", "experiment=quickstart", "model=failing", f"model.how={how}"]
    first, second = _srun(*words, "epochs=1", "next_steps=[]", "trainer=ddp_cpu")
    for process in (first, second):
        _, said = process.communicate(timeout=60)
        assert process.returncode == 1, said
    record = json.loads((tmp_path / "outputs/slurm-7-0/run.json").read_text())
    assert record["state"] == "failed"
    others = "the loss of another process is NaN"  # said by the first process, if it is the faster one
    assert error in record["error"] or (how == "nan" and others in record["error"])
