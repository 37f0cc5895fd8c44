"""No checkpoint contains NaN or infinite weights."""

import json
from types import SimpleNamespace

import pytest
import torch
from tiny_run import TINY
from torch import nn

from densenet_cli.options import UserError
from densenet_cli.training.finite_loss import FiniteLoss, not_finite

ONE_STEP = ["++trainer.limit_train_batches=1", "trainer.precision=32-true", "recipe=constant"]


@pytest.mark.parametrize("more", [[], ["recipe.ema_decay=0.5"]])
def test_weights_that_are_not_finite_are_not_saved(typed, tmp_path, more):
    overrides = [*TINY, *ONE_STEP, *more, "hydra.run.dir=outputs/run"]
    status, message = typed(
        *overrides, "epochs=1", "recipe.optimizer.lr=1e39"
    )  # the loss is still good
    assert status == 1
    assert (
        "numbers in network.classifier.bias and 28 more at step 1 (epoch 1, learning rate 1e+39)"
        in message
    )
    assert "recipe.optimizer.lr=1e+38" in message
    record = json.loads((tmp_path / "outputs/run/run.json").read_text())
    assert record["state"] == "failed"
    assert not list((tmp_path / "outputs/run").glob("checkpoints/*"))


def test_tensors_of_every_type_are_checked():
    tensors = {
        "good": torch.ones(3),
        "large": torch.full((2,), 1e300, dtype=torch.float64),  # its square is not finite
        "small": torch.full((2,), 1e30, dtype=torch.bfloat16),
        "none": torch.empty(0),
        "whole": torch.tensor(2**40),
        "nan": torch.tensor([1.0, torch.nan]),
        "infinite": torch.tensor([[-torch.inf, 1.0]], dtype=torch.bfloat16),
    }
    assert not_finite(tensors) == {"nan", "infinite"}
    assert not_finite({}) == set()


def test_an_infinite_mask_is_saved_and_an_infinite_statistic_is_not():
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    module.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    trainer = SimpleNamespace(optimizers=[optimizer], global_step=7, current_epoch=1)
    guard = FiniteLoss()
    guard.setup(trainer, module, "fit")
    guard.on_save_checkpoint(trainer, module, {"state_dict": module.state_dict()})
    module[1].running_var[0] = torch.inf
    with pytest.raises(UserError, match=r"NaN or infinite numbers in 1\.running_var at step 7"):
        guard.on_save_checkpoint(trainer, module, {"state_dict": module.state_dict()})
