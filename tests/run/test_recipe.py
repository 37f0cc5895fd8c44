"""Every optimizer and schedule of torch can be used in a recipe, or is refused in one message."""

import inspect
import io
import json
import signal

import pytest
import torch
from rich.console import Console
from tiny_run import TINY, TINY_PHOTOS
from torch import optim
from torch.optim import lr_scheduler

from densenet_cli.options import UserError
from densenet_cli.run import recipe, summary
from densenet_cli.training.checkpoints import Checkpoints
from densenet_cli.training.interruption import Interrupted

FEW = ["++trainer.limit_train_batches=3", "trainer.precision=32-true", "recipe=constant"]
TORCH = "torch.optim.lr_scheduler"
OPTIMIZERS = [
    name
    for name, kind in vars(optim).items()
    if inspect.isclass(kind) and issubclass(kind, optim.Optimizer) and kind is not optim.Optimizer
]
SCHEDULES = {  # those of torch, with the options that they need
    "ChainedScheduler": {"schedulers": [{"_target_": f"{TORCH}.LinearLR"}]},
    "ConstantLR": {},
    "CosineAnnealingLR": {"T_max": 3},
    "CosineAnnealingWarmRestarts": {"T_0": 2},
    "CyclicLR": {"base_lr": 0.01, "max_lr": 0.1},
    "ExponentialLR": {"gamma": 0.5},
    "LambdaLR": {"lr_lambda": {"_target_": "math.exp2", "_partial_": True}},
    "LinearLR": {},
    "MultiStepLR": {"milestones": [2]},
    "MultiplicativeLR": {"lr_lambda": {"_target_": "math.exp2", "_partial_": True}},
    "OneCycleLR": {"max_lr": 0.1},
    "PolynomialLR": {},
    "ReduceLROnPlateau": {"patience": 0, "threshold": 1000, "threshold_mode": "abs"},
    "SequentialLR": {
        "milestones": [1],
        "schedulers": [
            {"_target_": f"{TORCH}.LinearLR", "total_iters": 1},
            {"_target_": f"{TORCH}.CosineAnnealingLR", "T_max": 2},
        ],
    },
    "StepLR": {"step_size": 1},
}


def typed_schedule(name):
    """The overrides that give a recipe a schedule of torch."""
    options = json.dumps({"_target_": f"{TORCH}.{name}", **SCHEDULES[name]}).replace('"', "")
    return ["~recipe.schedule", f"+recipe.schedule={options}"]


def typed_optimizer(name):
    """The overrides that give a recipe an optimizer of torch."""
    return ["~recipe.optimizer", f"+recipe.optimizer={{_target_: torch.optim.{name}, lr: 0.01}}"]


def test_every_optimizer_of_torch_can_train_or_is_refused():
    refused = {}
    for name in OPTIMIZERS:
        options = {"_target_": f"torch.optim.{name}", "lr": 0.01}
        try:
            recipe.try_out(lambda network, o=options: recipe.optimizer(o, True, 1, network), name)
        except UserError as error:
            refused[name] = str(error)
    assert refused.keys() == {"SparseAdam", "Muon"} & set(OPTIMIZERS)
    assert (
        "SparseAdam cannot train a network: SparseAdam does not support dense" in refused["SparseAdam"]
    )
    assert all("\n" not in message for message in refused.values())


def test_every_schedule_of_torch_is_built_or_names_the_options_it_needs():
    known = {
        name
        for name, kind in vars(lr_scheduler).items()
        if inspect.isclass(kind) and issubclass(kind, lr_scheduler.LRScheduler) and name[0] != "_"
    }
    assert known - {"LRScheduler"} == SCHEDULES.keys()
    for name, options in SCHEDULES.items():
        recipe.schedule({"_target_": f"{TORCH}.{name}", **options})
        if options and name != "ReduceLROnPlateau":
            with pytest.raises(UserError) as caught:
                recipe.schedule({"_target_": f"{TORCH}.{name}"})
            overrides = str(caught.value).partition("needs more options; type ")[2].split()
            assert set(overrides) == {f"+recipe.schedule.{key}=..." for key in options}
    with pytest.raises(UserError, match="must be a list of schedules"):
        recipe.schedule({"_target_": f"{TORCH}.ChainedScheduler", "schedulers": ["a"]})


@pytest.mark.parametrize(
    "overrides",
    [
        [*typed_schedule("ReduceLROnPlateau"), "data.validation=200"],
        typed_schedule("ReduceLROnPlateau"),
        pytest.param(typed_schedule("SequentialLR"), marks=pytest.mark.slow),
        pytest.param(typed_optimizer("LBFGS"), marks=pytest.mark.slow),
    ],
    ids=["plateau of validation loss", "plateau of training loss", "sequence", "LBFGS"],
)
def test_a_resumed_run_has_the_learning_rates_and_weights_of_an_uninterrupted_one(
    typed, monkeypatch, overrides
):
    overrides = [*TINY, *FEW, *overrides, "epochs=3"]
    status, stderr = typed(*overrides, "hydra.run.dir=outputs/whole")
    assert status == 0, stderr
    end = Checkpoints.on_train_epoch_end

    def broken_off(self, trainer, module):
        end(self, trainer, module)
        if trainer.current_epoch == 1:
            raise Interrupted(signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, "on_train_epoch_end", broken_off)
        assert typed(*overrides, "hydra.run.dir=outputs/broken")[0] == 130
    status, stderr = typed("resume=outputs/broken")
    assert status == 0, stderr
    whole, broken = (
        torch.load(f"outputs/{name}/checkpoints/last.ckpt", weights_only=True)
        for name in ("whole", "broken")
    )
    assert whole["lr_schedulers"] == broken["lr_schedulers"]
    for name, tensor in whole["state_dict"].items():
        assert torch.equal(tensor, broken["state_dict"][name]), name
    rows = [checkpoint["callbacks"]["TrainingProgress"]["rows"] for checkpoint in (whole, broken)]
    for row in (*rows[0], *rows[1]):
        del row["seconds"], row["images_per_second"]
    assert rows[0] == rows[1]


def test_a_plateau_lowers_the_learning_rate_and_lbfgs_counts_each_image_once(typed, tmp_path):
    """With this threshold, each epoch after the first is a plateau."""
    overrides = [*TINY, *FEW, *typed_schedule("ReduceLROnPlateau"), "epochs=3"]
    assert typed(*overrides, "hydra.run.dir=outputs/run")[0] == 0
    rows = (tmp_path / "outputs/run/metrics.csv").read_text().splitlines()[1:]
    assert [float(row.split(",")[1]) for row in rows] == pytest.approx([0.1, 0.1, 0.01])
    overrides = [*TINY, *FEW, *typed_optimizer("LBFGS"), "epochs=1"]
    assert typed(*overrides, "hydra.run.dir=outputs/lbfgs")[0] == 0
    checkpoint = torch.load("outputs/lbfgs/checkpoints/last.ckpt", weights_only=True)
    (row,) = checkpoint["callbacks"]["TrainingProgress"]["rows"]
    assert row["train_error"] * 3 * 64 / 100 == pytest.approx(
        round(row["train_error"] * 1.92), abs=1e-3
    )


def test_a_plateau_that_prefers_a_growing_loss_is_refused(typed):
    overrides = [*TINY, *FEW, *typed_schedule("ReduceLROnPlateau"), "+recipe.schedule.mode=max"]
    status, stderr = typed(*overrides)
    assert status == 1
    assert "recipe.schedule.mode=max: must be min, since the schedule follows the loss" in stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        *([typed_optimizer(name) for name in OPTIMIZERS if name not in ("SparseAdam", "Muon")]),
        *([typed_schedule(name) for name in SCHEDULES]),
    ],
    ids=str,
)
def test_a_run_with_each_of_them_is_done(typed, overrides):
    status, stderr = typed(*TINY, *FEW, *overrides)
    assert status == 0, stderr


def test_the_modern_recipe_trains_on_mixed_smaller_photos(photos, typed, tmp_path):
    words = ["recipe=modern_imagenet", "data.batch_size=4", "data.train_size=8", "budget=2epochs"]
    status, message = typed(*TINY_PHOTOS, *words, "hydra.run.dir=outputs/run")
    assert status == 0, message
    assert "% (mixed)  test loss" in (tmp_path / "outputs/run/run.log").read_text()
    record = json.loads((tmp_path / "outputs/run/run.json").read_text())
    console = Console(file=io.StringIO(), width=300)
    summary.announce(console, record, tmp_path)
    assert "16 images of 8x8, tested at 16x16; " in console.file.getvalue()
    head = record["multiply_adds"] - 4 * (record["train_multiply_adds"] // (3 * 2 * 16))
    classifier = -head / 3  # the only part that does not depend on the size: m = 4 (t - c) + c
    saved = torch.load(tmp_path / "outputs/run/checkpoints/last.ckpt", weights_only=True)
    assert classifier == saved["state_dict"]["network.classifier.weight"].numel()
    assert not torch.equal(
        saved["state_dict"]["network.classifier.weight"],
        saved["current_model_state"]["network.classifier.weight"],
    )
