"""budget=: how many steps it pays for, learning rates over them, resumed runs, and what is refused."""

import json
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from short_run import SMALL, StopAfter, rates_of, train_short, weights

from densenet_cli.models.resnet import ResNet
from densenet_cli.options import OptionError
from densenet_cli.run import budget, length
from densenet_cli.run.budget import Epoch
from densenet_cli.training.interruption import Interrupted, Interruption

FORWARD = 77_754  # multiply-adds of this network: densenet-model summary
STEPS = 23  # batches of 64 of the 1,437 training images
IMAGES = 1437
# After which part of the recipe's own epochs the rate falls, and to which part of the first rate. The
# papers' numbers: with "at epoch 150 of 300" of the Torch7 code, 149 epochs have the first rate.
FALLS = {
    "paper_cifar": ([149 / 300, 224 / 300], [1, 0.1, 0.01]),
    "paper_svhn": ([19 / 40, 29 / 40], [1, 0.1, 0.01]),
    "paper_imagenet": ([30 / 90, 60 / 90], [1, 0.1, 0.01]),
    "resnet": ([80 / 164, 121 / 164], [1, 0.1, 0.01]),
    "constant": ([], [1]),
    "wide_resnet": ([59 / 200, 119 / 200, 159 / 200], [1, 1 / 5, 1 / 25, 1 / 125]),
}


def _record(folder):
    return json.loads((folder / "run.json").read_text())


def _with(typed, **others):
    """What is read of a configuration."""
    recipe = {"optimizer": {"_target_": "torch.optim.SGD"}}
    read = {"task": "train", "budget": typed, "trainer": {}, "pretrained": {"frozen": False}}
    return read | {"recipe": recipe} | others


def _length(typed, epoch, forward=FORWARD, seconds=None):
    configuration = _with(typed)
    return budget.length(configuration, budget.read(configuration), epoch, forward, seconds)


@pytest.mark.parametrize("amount", [1.0, 2.5, 7.3])
@pytest.mark.parametrize("epoch", [Epoch(1437, 64), Epoch(128, 64), Epoch(5, 64), Epoch(1437, 192)])
def test_multiply_adds_pay_for_all_steps_but_no_further_one(epoch, amount):
    sizes = [
        min(epoch.step_images, epoch.images - first)
        for first in range(0, epoch.images, epoch.step_images)
    ]
    costs = 3 * FORWARD * np.array(sizes * 9)  # step by step
    total = int(amount * costs[: len(sizes)].sum())
    length = _length(total, epoch)
    assert length.steps == np.searchsorted(costs.cumsum(), total, side="right")
    assert length.multiply_adds == costs[: length.steps].sum()
    assert length.epochs == pytest.approx(length.steps / len(sizes), abs=1e-4)


@pytest.mark.parametrize(
    ("typed", "steps"), [("20epochs", 460), ("2.5epochs", 57), ("1min", 85), ("0.5min", 42)]
)
def test_minutes_and_epochs_pay_for_whole_steps(typed, steps):
    assert _length(typed, Epoch(IMAGES, 64), seconds=0.7).steps == steps


@pytest.mark.parametrize(
    "recipe",
    [
        *("paper_cifar", "wide_resnet"),
        *(pytest.param(name, marks=pytest.mark.slow) for name in [*FALLS][1:-1]),
    ],
)
def test_a_rate_falls_at_the_same_part_of_training_as_in_the_recipe(recipe, short, tmp_path):
    held_out = ["data.validation=99"] if recipe == "paper_svhn" else []
    rates = rates_of(short(f"recipe={recipe}", "budget=5.5epochs", *held_out), tmp_path)
    falls, parts = FALLS[recipe]
    assert len(rates) == 33
    completed = np.arange(33) / 33  # of training, before each step
    own_epochs = {"paper_cifar": 300, "paper_svhn": 40, "paper_imagenet": 90, "resnet": 164}
    whole = own_epochs.get(recipe, 200)
    epoch = np.floor(completed * whole + 1e-9) / whole  # the recipe's rates change between epochs
    expected = 0.1 * np.array(parts)[(epoch[:, None] >= np.array([falls]) - 1e-9).sum(1)]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


@pytest.mark.parametrize(("recipe", "epochs"), [("one_cycle", 10), ("adamw_cosine", 100)])
def test_a_cycle_is_stretched_over_the_budget(recipe, epochs, short, tmp_path):
    configuration = short(f"recipe={recipe}", "budget=5.5epochs")
    rates = rates_of(configuration, tmp_path)
    options = configuration["recipe"]["schedule"]
    whole = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=options["max_lr"])
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        whole, options["max_lr"], total_steps=6 * epochs, pct_start=options["pct_start"],
        cycle_momentum=False,
    )  # fmt: skip
    own = []
    for _ in range(6 * epochs):
        own.append(cycle.get_last_lr()[0])
        whole.step()
        cycle.step() if len(own) < 6 * epochs else None
    parts = np.linspace(0, 1, len(own))
    for part, rate in zip(np.linspace(0, 1, 33), rates, strict=True):
        near = np.array(own)[np.abs(parts - part) <= 1 / 32]  # within one step
        assert 0.99 * near.min() <= rate <= 1.01 * near.max()
    assert rates.max() == pytest.approx(options["max_lr"], rel=0.01)
    assert rates[-1] == pytest.approx(own[-1])


def test_a_schedule_of_torch_in_epochs_is_scaled_too(short, tmp_path):
    """Its epochs are those of the recipe, 40; a warm-up of 4 of them is a tenth of training."""
    kind = "recipe.schedule._target_=torch.optim.lr_scheduler.LinearLR"
    configuration = short(
        "recipe=constant", "recipe.epochs=40", kind,
        "+recipe.schedule.start_factor=0.5", "+recipe.schedule.total_iters=20", "budget=5epochs",
    )  # fmt: skip
    rates = rates_of(configuration, tmp_path)
    done = np.floor(np.arange(30) / 30 * 40 + 1e-9)
    np.testing.assert_allclose(rates, 0.1 * np.minimum(1, 0.5 + 0.5 * done / 20), rtol=1e-6)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ("budget=10h", ["budget=10h", "10min", "20epochs", "1e15"]),
        ("budget=0", ["budget=0", "above 0"]),
        ("budget=true", ["budget=true"]),
        ("budget=1e400", ["budget=inf"]),
        ("budget=1e8", ["budget=1e8", "one epoch (23 steps, 1,437 images)", "budget=3.4e8"]),
        ("budget=0.5epochs", ["budget=0.5epochs", "one epoch", "budget=1epochs"]),
        ("budget=1e12 epochs=3", ["budget=1e12", "epochs=3", "one of them"]),
        ("budget=1e12 ++trainer.max_steps=3", ["trainer.max_steps=3", "budget=1e12"]),
        ("budget=1e12 ++trainer.max_time=1:0:0:0", ["trainer.max_time", "budget=1e12"]),
        ("budget=1min task=test checkpoint=x", ["budget=1min", "task=test trains nothing"]),
        ("budget=1e12 pretrained.weights=x pretrained.frozen=true", ["classifier only", "20epochs"]),
        ("budget=1e12 recipe.optimizer._target_=torch.optim.LBFGS", ["LBFGS", "20epochs"]),
        ("budget=20epochs ++trainer.limit_train_batches=0", ["limit_train_batches"]),
    ],
)
def test_a_budget_that_cannot_work_is_refused_with_one_message(overrides, words, refused):
    message = refused(*SMALL, *overrides.split())
    assert [word for word in words if word not in message] == []


def test_a_network_without_multiply_adds_is_refused():
    with pytest.raises(OptionError, match="to count; epochs can be counted"):
        _length(1e12, Epoch(IMAGES, 64), forward=0)


def test_blocks_that_stochastic_depth_drops_are_not_paid_for(typed, tmp_path):
    network = ["data=digits", "recipe=one_cycle", "model=resnet", "model.depth=8"]
    words = [*network, "model.survival_probability=0.5", "trainer=cpu", "next_steps=[]"]
    status, message = typed(*words, "budget=3e9", "hydra.run.dir=run")
    assert status == 0, message
    record = _record(tmp_path / "run")
    # three blocks of two 3x3 convolutions; p = 5/6, 4/6, 3/6; images of 8x8 pixels
    blocks = [9 * 16 * 16 * 64 * 2, 9 * 32 * 16 * (16 + 32), 9 * 64 * 4 * (32 + 64)]
    rest = 9 * 3 * 16 * 64 + 64 * 10
    assert record["multiply_adds"] == rest + sum(blocks)  # of a prediction
    each = 3 * (rest + round(sum(size * p / 6 for size, p in zip(blocks, (5, 4, 3), strict=True))))
    assert record["train_multiply_adds"] == record["budget"]["multiply_adds"]
    assert record["train_multiply_adds"] % each == 0
    assert 3e9 - 64 * each < record["train_multiply_adds"] <= 3e9


def test_smaller_images_cost_less_in_training():
    network = ResNet(10, 8)
    data = SimpleNamespace(image_size=(32, 32), train_image_size=(16, 16), channels=3)
    test = length.forward_multiply_adds(network, data)
    for forward in (None, test):  # of which all but the classifier's 640 is a quarter
        trained = length.trained_multiply_adds(network, data, forward)
        assert trained == (test - 640) / 4 + 640


def test_minutes_that_are_too_few_say_how_many_are_enough():
    with pytest.raises(OptionError, match=r"one epoch .*budget=2\.3min"):
        _length("1min", Epoch(IMAGES, 64), seconds=6.0)
    assert _length("2.3min", Epoch(IMAGES, 64), seconds=6.0).steps == STEPS


def test_a_record_says_what_was_planned_and_what_was_used(command, tmp_path):
    result = command(*SMALL, "budget=8e8", "hydra.run.dir=run")
    assert result.returncode == 0, result.stderr
    images = 8e8 // (3 * FORWARD)
    steps = STEPS * int(images // IMAGES) + int(images % IMAGES) // 64
    assert f"budget=8e8: {steps} steps" in result.stdout
    record = _record(tmp_path / "run")
    planned = record["budget"]
    assert (planned["planned"], planned["steps"], planned["steps_per_epoch"]) == ("8e8", steps, STEPS)
    trained = IMAGES * (steps // STEPS) + 64 * (steps % STEPS)
    assert record["train_multiply_adds"] == planned["multiply_adds"] == 3 * FORWARD * trained
    assert planned["multiply_adds_per_step"] == 3 * FORWARD * 64
    assert (record["epochs"], record["epoch"]) == (3, 3)
    rows = (tmp_path / "run/metrics.csv").read_text().splitlines()
    assert len(rows) == 4
    assert all(rows[-1].split(","))  # the part of an epoch was evaluated as well
    assert record["results"]["test_error"] == pytest.approx(float(rows[-1].split(",")[7]), abs=1e-3)


@pytest.mark.parametrize(
    ("length", "step", "saved"),
    [
        ("budget=5.5epochs", 32, 32),
        pytest.param("budget=5.5epochs", 25, 25, marks=pytest.mark.slow),
        pytest.param("budget=5.5epochs", 33, 30, marks=pytest.mark.slow),
        pytest.param("++trainer.max_steps=33", 32, 32, marks=pytest.mark.slow),
        ("++trainer.max_steps=33", 33, 30),
        ("epochs=null recipe.steps=33", 32, 32),
    ],
)
def test_a_run_stopped_in_its_last_part_of_an_epoch_ends_as_if_it_were_not(
    length, step, saved, short, tmp_path
):
    """In its 6th epoch, of 3 steps; in its 5th, of 6; in the evaluation after the last step."""
    words = ["recipe=paper_cifar", "recipe.ema_decay=0.9", "data.validation=99", *length.split()]
    configuration = short(*words, "++trainer.limit_test_batches=1")
    whole = train_short(configuration, tmp_path / "whole")
    broken, interruption = tmp_path / "broken", Interruption()
    with pytest.raises(Interrupted):
        train_short(configuration, broken, StopAfter(step, interruption), interruption=interruption)
    last = broken / "checkpoints/last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == saved
    results, rows = train_short(configuration, broken, resume_from=last)
    assert (results, rows) == (whole[0], whole[1][-len(rows) :] if rows else [])
    ours, theirs = weights(broken), weights(tmp_path / "whole")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert train_short(configuration, broken, resume_from=last) == (
        results,
        [],
    )  # nothing is left to train


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["8e8", "2.5epochs", "8e8 ema"])
def test_a_resumed_run_ends_as_the_uninterrupted_one(kind, command, interrupted, tmp_path):
    typed, *ema = kind.split()
    overrides = [
        *SMALL,
        f"budget={typed}",
        "recipe=paper_cifar",
        "model.dropout=0.2",
        "data.validation=99",
    ]
    overrides += ["recipe.ema_decay=0.9"] if ema else []
    assert command(*overrides, "hydra.run.dir=whole").returncode == 0
    once = "broken/checkpoints/last.ckpt"
    arguments = [*overrides, "checkpoint_minutes=0.0001", "hydra.run.dir=broken"]
    assert interrupted(*arguments, once=once, send=signal.SIGKILL)[0] == -9
    before = torch.load(tmp_path / once, weights_only=True)["global_step"]
    steps = _record(tmp_path / "broken")["budget"]["steps"]
    assert before < steps
    resumed = command("resume=broken")
    assert resumed.returncode == 0, resumed.stderr
    _assert_equal(tmp_path / "broken", tmp_path / "whole")
    again = command("task=test", "checkpoint=whole/checkpoints/last.ckpt", "hydra.run.dir=again")
    assert again.returncode == 0, again.stderr  # the budget of the run that it tests is no fault
    error = _record(tmp_path / "whole")["results"]["test_error"]
    assert _record(tmp_path / "again")["results"]["test_error"] == error


def _assert_equal(folder, other):
    ours, theirs = weights(folder), weights(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert _record(folder)["results"] == _record(other)["results"]
    assert _record(folder)["train_multiply_adds"] == _record(other)["train_multiply_adds"]


@pytest.mark.slow
def test_a_run_in_minutes_keeps_its_number_of_steps(command, interrupted, tmp_path):
    """Broken off while steps are measured, then before the first checkpoint, then after it."""
    recipe = ["recipe=wide_resnet", "data.batch_size=64", "recipe.warm_up={rate:0.01,epochs:60}"]
    overrides = [*SMALL, *recipe, "budget=0.05min", "hydra.run.dir=broken"]
    assert interrupted(*overrides, once="broken/run.json", send=signal.SIGKILL)[0] == -9
    assert "budget" not in _record(tmp_path / "broken")
    result = command("resume=broken")
    assert result.returncode == 0, result.stderr
    measured = _record(tmp_path / "broken")
    assert measured["budget"]["seconds_per_step"] > 0
    results, saved = measured["results"], weights(tmp_path / "broken")

    for left in ((), ("checkpoints/last.ckpt", "checkpoints/best.ckpt")):
        record = _record(tmp_path / "broken") | {"state": "running", "results": {}}
        (tmp_path / "broken/run.json").write_text(json.dumps(record))
        for name in left:
            (tmp_path / "broken" / name).unlink()
        result = command("resume=broken")
        assert result.returncode == 0, result.stderr
        assert "measuring" not in result.stdout
        resumed = _record(tmp_path / "broken")
        assert (resumed["budget"], resumed["results"]) == (measured["budget"], results)

    steps = measured["budget"]["steps"]
    same = command(*SMALL, *recipe, f"budget={steps / STEPS}epochs", "hydra.run.dir=epochs")
    assert same.returncode == 0, same.stderr
    assert _record(tmp_path / "epochs")["budget"]["steps"] == steps
    for name, tensor in weights(tmp_path / "epochs").items():
        assert torch.equal(tensor, saved[name])


@pytest.mark.slow
def test_several_processes_agree_on_their_steps(command, tmp_path):
    result = command(*SMALL, "trainer=ddp_cpu", "budget=0.1min", "hydra.run.dir=run")
    assert result.returncode == 0, result.stderr
    record = _record(tmp_path / "run")
    assert record["processes"] == 2
    checkpoint = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == record["budget"]["steps"]
    assert record["train_multiply_adds"] == record["budget"]["multiply_adds"]
