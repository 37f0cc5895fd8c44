"""What a process does before it trains."""

import os
import subprocess
import sys

import pytest
import torch
from tiny_run import TINY

from densenet_cli import launch

LOADED = """
import sys
from densenet_cli.quick_imports import quick_imports

with quick_imports():
    import densenet_cli.run
assert not {"matplotlib", "scipy", "torchvision"} & sys.modules.keys()
import lightning_utilities.core.imports as imports
assert imports.package_available("torchvision")
import torchvision.models
torchvision.models.resnet18()
"""


def test_a_run_loads_no_package_that_only_other_metrics_need():
    answer = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, check=False, timeout=200
    )
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize(
    ("policy", "spins"), [(None, "10000"), ("active", None)], ids=["default", "the user's"]
)
def test_threads_spin_briefly_unless_the_user_chose(policy, spins, monkeypatch):
    monkeypatch.setattr(os, "environ", {} if policy is None else {"OMP_WAIT_POLICY": policy})
    launch.spin_briefly()
    assert os.environ.get("GOMP_SPINCOUNT") == spins


@pytest.mark.parametrize(
    ("word", "fused"),
    [(None, True), ("+recipe.optimizer.foreach=true", None), ("+recipe.optimizer.fused=false", False)],
)
def test_an_optimizer_is_fused_unless_the_recipe_chose(word, fused, typed, tmp_path):
    words = [*TINY, "epochs=1", "hydra.run.dir=outputs/run", *([word] if word else [])]
    assert typed(*words)[0] == 0
    checkpoint = torch.load(tmp_path / "outputs/run/checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["optimizer_states"][0]["param_groups"][0]["fused"] is fused
