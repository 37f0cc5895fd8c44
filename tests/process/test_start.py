"""How a process starts: what it imports, with how many threads, and how it can be interrupted."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tiny_run import TINY

from densenet_cli.process import ranks

INSTALLED = """
import sys
from densenet_cli.commands import densenet_run
if __name__ == "__main__":
    sys.exit(densenet_run())
"""
HIDDEN = ["queue", "ctypes", "random", "json", "torch", "numpy", "yaml", "joblib", "densenet_cli"]

LOADED = """
import sys
from densenet_cli.process.load_torch import load_lightning

load_lightning()
import densenet_cli.run.execute
assert not {"matplotlib", "scipy", "torchvision"} & sys.modules.keys()
import lightning_utilities.core.imports as imports
assert imports.package_available("torchvision")
import torchvision.models
torchvision.models.resnet18()
"""


def test_a_run_imports_no_package_that_only_unused_metrics_need():
    answer = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, check=False, timeout=200
    )
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize(
    ("policy", "spins"), [(None, "10000"), ("active", None)], ids=["default", "the user's"]
)
def test_threads_spin_briefly_unless_the_user_chose(policy, spins, monkeypatch):
    monkeypatch.setattr(os, "environ", {} if policy is None else {"OMP_WAIT_POLICY": policy})
    ranks.spin_briefly()
    assert os.environ.get("GOMP_SPINCOUNT") == spins


@pytest.mark.parametrize(
    ("argument", "fused"),
    [(None, True), ("+recipe.optimizer.foreach=true", None), ("+recipe.optimizer.fused=false", False)],
)
def test_an_optimizer_is_fused_unless_the_recipe_chose(argument, fused, typed, tmp_path):
    arguments = [*TINY, "epochs=1", "hydra.run.dir=outputs/run", *([argument] if argument else [])]
    assert typed(*arguments)[0] == 0
    checkpoint = torch.load(tmp_path / "outputs/run/checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["optimizer_states"][0]["param_groups"][0]["fused"] is fused


@pytest.mark.parametrize(
    "arguments",
    [
        ["--multirun", "sweep.name=sweep"],
        pytest.param(["trainer=ddp_cpu"], marks=pytest.mark.slow),
        pytest.param(["--multirun", "seed=0,1", "hydra/launcher=parallel"], marks=pytest.mark.slow),
        pytest.param(["--multirun", "seed=0,1", "hydra/launcher=joblib"], marks=pytest.mark.slow),
        pytest.param(
            ["--multirun", "seed=0,1", "hydra/launcher=submitit_local"], marks=pytest.mark.slow
        ),
        pytest.param(["--multirun", "seed=0,1", "plan=true"], marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_no_file_in_the_working_folder_replaces_a_module(arguments, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/densenet-run").write_text(INSTALLED)
    for name in HIDDEN:
        (tmp_path / f"{name}.py").write_text(
            "open('executed', 'a').write(__name__)\nraise SystemExit(3)"
        )
    typed = [sys.executable, "bin/densenet-run", *TINY, "epochs=1", *arguments]
    answer = subprocess.run(typed, capture_output=True, text=True, timeout=240, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert not (tmp_path / "executed").exists()


@pytest.mark.slow
def test_a_module_in_the_working_folder_is_found_in_sweeps_too(command, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self, num_classes):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(192, num_classes))\n"
    )
    (tmp_path / "own/model").mkdir(parents=True)
    (tmp_path / "own/model/mine.yaml").write_text("_target_: mine.Net\n")
    arguments = ["--config-dir=own", "experiment=quickstart", "model=mine", "epochs=1", "trainer=cpu"]
    answer = command("--multirun", *arguments, "sweep.name=sweep")  # as python -m, which searches here
    assert answer.returncode == 0, answer.stderr


COMMANDS = {
    "run": ["run", *TINY],
    "sweep": ["run", "--multirun", *TINY, "sweep.name=sweep"],
    "model": ["model", "summary", "model.depth=10"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_too_little_memory_for_torch_is_one_message(name):
    module, *arguments = COMMANDS[name]
    typed = ["bash", "-c", 'ulimit -v 300000; exec "$@"', "bash", sys.executable, "-m"]
    typed += [f"densenet_cli.commands.{module}", *arguments]
    answer = subprocess.run(typed, capture_output=True, text=True, check=False, timeout=200)
    assert answer.returncode == 1
    said = [line for line in answer.stderr.splitlines() if "densenet-run: [1/1]" not in line]
    (message,) = (line for line in said if "1 run in" not in line)
    assert "there is too little memory: " in message
    assert "ulimit -v allows 307 MB" in message
    if name == "sweep":
        assert "failed: there is too little memory" in answer.stdout


def _loads_torch(process):
    """Whether a process, or one of its children, has begun to import torch."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    maps = Path(f"/proc/{process}/maps").read_text()
    return "libtorch" in maps or any(map(_loads_torch, children))


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("name", COMMANDS)
def test_ctrl_c_typed_twice_while_torch_loads_ends_without_a_traceback(name, tmp_path):
    module, *arguments = COMMANDS[name]
    typed = [sys.executable, "-m", f"densenet_cli.commands.{module}", *arguments]
    process = subprocess.Popen(
        typed,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # Tests that run in the background may have been told to ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while not _loads_torch(process.pid):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    _, said = process.communicate(timeout=120)
    assert process.returncode in (130, -signal.SIGINT)
    assert "Traceback" not in said
    assert "ignored" not in said
    assert not list(tmp_path.glob("outputs/**/last.ckpt"))
