"""recipe.steps, recipe.warm_up and recipe.reset_momentum_at_drops, also in runs that are resumed."""

import json
import math
import signal
from itertools import pairwise

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from short_run import SMALL, Rates, StopAfter, rates_of, train_short, weights

from densenet_cli.options import OptionError
from densenet_cli.record import run_length
from densenet_cli.training.interruption import Interrupted, Interruption

SCHEDULER = "recipe.schedule._target_=torch.optim.lr_scheduler"
STEPS = 6  # of an epoch of a short run


class Momenta(L.Callback):
    """The learning rate of each step, and the largest momentum before it; 0 if there is none yet."""

    def __init__(self):
        self.seen = []

    def on_train_batch_start(self, trainer, *_):
        optimizer = trainer.optimizers[0]
        largest = [float(state["momentum_buffer"].abs().max()) for state in optimizer.state.values()]
        self.seen.append((optimizer.param_groups[0]["lr"], max(largest, default=0.0)))


def test_a_recipe_in_steps_drops_by_its_steps_and_evaluates_its_last_part(short, tmp_path):
    """A fifth of He's: 32 steps, drops at 16 and 24."""
    configuration = short("recipe=he_2015", "epochs=null", "recipe.steps=32", "data.validation=99")
    noted = Rates()
    results, epochs = train_short(configuration, tmp_path, noted)
    np.testing.assert_allclose(noted.rates, [0.1] * 16 + [0.01] * 8 + [0.001] * 8)
    assert epochs == [1, 2, 3, 4, 5, 6]
    assert results["validation_error_last"] is not None  # of the 2 steps of the last epoch


def test_a_schedule_by_epochs_counts_those_that_steps_begin(short, tmp_path):
    rates = rates_of(short("recipe=paper_cifar", "epochs=null", "recipe.steps=21"), tmp_path)
    np.testing.assert_allclose(rates, [0.1] * 6 + [0.01] * 6 + [0.001] * 9)  # at epochs 2 and 3 of 4


@pytest.mark.parametrize(
    ("overrides", "counts"),
    [
        ("recipe=resnet", "epochs"),
        ("recipe=he_2015", "steps"),
        ("recipe=resnet recipe.steps=1000", "steps"),
        ("recipe=he_2015 recipe.steps=null epochs=5", "epochs"),
        ("recipe=he_2015 epochs=5", "conflict"),
        ("recipe=he_2015 epochs=5 budget=1e15", "steps"),
        ("experiment=quickstart recipe.steps=1000", "conflict"),
        ("experiment=quickstart recipe.steps=1000 epochs=null", "steps"),
    ],
)
def test_one_of_steps_and_epochs_counts(overrides, counts, config):
    configuration = config(*overrides.split())
    if counts == "conflict":
        with pytest.raises(OptionError, match=r"epochs=\d+: cannot be combined with recipe\.steps"):
            run_length.check(configuration)
        return
    run_length.check(configuration)
    assert (run_length.chosen_steps(configuration) is None) == (counts == "epochs")


WARM_UPS = {
    "steps": ("recipe.warm_up={rate:0.01,steps:8}", 8),
    "epochs": ("recipe.warm_up={rate:0.01,epochs:1}", 6),
    "until_error": ("recipe.warm_up={rate:0.01,until_error:100}", 6),
}
SCHEDULES = {
    "constant": (["recipe=constant"], lambda step: 0.1),
    "by steps": (
        ["recipe=he_2015", "recipe.steps=null"],
        lambda step: 0.1 / 10 ** sum(step >= drop for drop in (9, 14)),
    ),
    "by epochs": (["recipe=paper_cifar"], lambda step: 0.1 / 10 ** (step // STEPS)),
    "recursive": (
        ["recipe=constant", f"{SCHEDULER}.ExponentialLR", "+recipe.schedule.gamma=0.5"],
        lambda step: 0.1 * 0.5 ** (step // STEPS),
    ),
    "one cycle": (
        ["recipe=one_cycle", "recipe.schedule.pct_start=0.5"],
        lambda step: 0.004 + 0.096 * (1 - math.cos(math.pi * step / 8)) / 2 if step <= 8 else None,
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("schedule", "warm_up"),
    [
        *[("by epochs", "steps"), ("recursive", "until_error"), ("by steps", "epochs")],
        ("one cycle", "epochs"),
    ]
    + [
        pytest.param(schedule, warm_up, marks=pytest.mark.slow)
        for schedule, warm_up in [
            ("constant", "steps"), ("constant", "epochs"), ("constant", "until_error"),
            ("by epochs", "until_error"), ("recursive", "steps"), ("by steps", "steps"),
            ("one cycle", "steps"),
        ]
    ],
)  # fmt: skip
def test_a_warm_up_comes_first_and_the_schedule_goes_on_as_without_it(
    schedule, warm_up, short, tmp_path
):
    typed, rate = SCHEDULES[schedule]
    override, steps = WARM_UPS[warm_up]
    rates = rates_of(short(*typed, override, "epochs=3"), tmp_path)
    assert len(rates) == 18
    expected = [0.01 if step < steps else rate(step) for step in range(18)]
    for step, (ours, theirs) in enumerate(zip(rates, expected, strict=True)):
        assert theirs is None or ours == pytest.approx(theirs), step


def test_a_budget_scales_a_warm_up_with_the_schedule(short, tmp_path):
    """A sixth of the recipe's steps, and of its warm-up."""
    overrides = ["recipe=he_2016", "recipe.steps=180", "recipe.warm_up.steps=30", "budget=5epochs"]
    rates = rates_of(short(*overrides), tmp_path)
    np.testing.assert_allclose(rates, [0.01] * 5 + [0.1] * 10 + [0.01] * 8 + [0.001] * 7)


def test_an_error_that_is_not_reached_keeps_the_warm_up(short, tmp_path, caplog):
    rates = rates_of(
        short("recipe=constant", "recipe.warm_up={rate:1e-6,until_error:20}", "epochs=2"), tmp_path
    )
    assert set(rates) == {1e-6}
    assert "training has ended before its warm-up" in caplog.text


def test_momentum_is_cleared_at_drops_and_only_there(short, tmp_path):
    """One that it comes from the schedule, and not from the end of a warm-up."""
    momenta = Momenta()
    configuration = short(
        "recipe=wide_resnet", "epochs=10", "recipe.warm_up={rate:0.01,steps:3}", "data.batch_size=512"
    )
    train_short(configuration, tmp_path, momenta)
    assert len(momenta.seen) == 30
    for step, ((before, _), (rate, largest)) in enumerate(pairwise(momenta.seen), start=1):
        assert (largest == 0) == (rate < before), step
    assert [step for step, (_, largest) in enumerate(momenta.seen) if largest == 0] == [0, 6, 15, 21]


@pytest.mark.parametrize(
    "words",
    [
        "recipe=wide_resnet recipe.warm_up={rate:0.01,until_error:100}",
        pytest.param("recipe=wide_resnet recipe.warm_up={rate:0.01,steps:8}", marks=pytest.mark.slow),
        pytest.param("recipe=one_cycle recipe.warm_up={rate:0.001,steps:11}", marks=pytest.mark.slow),
        pytest.param(
            "recipe=he_2016 recipe.warm_up.steps=10 recipe.steps=20 epochs=null", marks=pytest.mark.slow
        ),
        pytest.param(
            "recipe=constant recipe.warm_up={rate:0.01,until_error:100} "
            f"{SCHEDULER}.ReduceLROnPlateau +recipe.schedule.patience=0 "
            "+recipe.schedule.threshold=1000 +recipe.schedule.threshold_mode=abs "
            "recipe.reset_momentum_at_drops=true",
            marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("step", [4, 8])
def test_a_run_stopped_in_or_after_its_warm_up_ends_as_if_it_were_not(words, step, short, tmp_path):
    configuration = short("epochs=4", "data.validation=99", *words.split())
    noted = Rates()
    whole = train_short(configuration, tmp_path / "whole", noted)
    broken, interruption, before, after = tmp_path / "broken", Interruption(), Rates(), Rates()
    stop = StopAfter(step, interruption)
    with pytest.raises(Interrupted):
        train_short(configuration, broken, before, stop, interruption=interruption)
    last = broken / "checkpoints/last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == step
    results, _ = train_short(configuration, broken, after, resume_from=last)
    assert before.rates + after.rates == noted.rates
    assert results == whole[0]
    ours, theirs = weights(broken), weights(tmp_path / "whole")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ("recipe.steps=1000", ["epochs=20", "recipe.steps=1000", "epochs=null"]),
        ("recipe.steps=0 epochs=null", ["recipe.steps=0", "1 or more"]),
        ("recipe.steps=9 epochs=20", ["recipe.steps=9", "epochs=20", "one of them"]),
        ("recipe.steps=9 budget=1e15", ["budget=1e15", "recipe.steps=9", "one of them"]),
        ("recipe.steps=9 epochs=null ++trainer.limit_train_batches=0", ["limit_train_batches"]),
        ("recipe.warm_up=true", ["recipe.warm_up=true", "recipe.warm_up={rate:0.01,steps:400}"]),
        ("recipe.warm_up={rate:0.01}", ["recipe.warm_up.steps=null", "one of steps, epochs"]),
        ("recipe.warm_up={rate:0.01,steps:4,epochs:2}", ["recipe.warm_up.epochs=2", "one of steps"]),
        ("recipe.warm_up={rate:0.01,step:4}", ["recipe.warm_up.step=4", "recipe.warm_up.steps"]),
        ("recipe.warm_up={rate:0.1,steps:4}", ["recipe.warm_up.rate=0.1", "below", "lr=0.1"]),
        ("recipe.warm_up={rate:0.01,until_error:0}", ["recipe.warm_up.until_error=0", "above 0"]),
        ("recipe.reset_momentum_at_drops=1", ["reset_momentum_at_drops=1", "true or false"]),
        ("recipe.reset_momentum_at_drops=true", ["OneCycleLR does not"]),
        (
            "recipe=wide_resnet recipe.optimizer.momentum=0 recipe.optimizer.nesterov=false",
            ["recipe.reset_momentum_at_drops=true", "an optimizer with momentum"],
        ),
    ],
)
def test_what_cannot_work_is_refused_with_one_message(overrides, words, refused):
    message = refused(*SMALL, *overrides.split())
    assert [word for word in words if word not in message] == []


def test_a_record_says_how_many_steps_and_epochs_it_is(command, tmp_path):
    overrides = [*SMALL, "recipe=he_2016", "recipe.steps=30", "epochs=null", "recipe.warm_up=null"]
    result = command(*overrides, "hydra.run.dir=run")
    assert result.returncode == 0, result.stderr
    assert "recipe.steps=30: 30 steps, 2.5 epochs, " in result.stdout  # 12 steps each
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert (record["epochs"], record["epoch"], record["length"]["steps"]) == (3, 3, 30)
    assert record["length"]["epochs"] == 2.5
    assert record["train_multiply_adds"] == record["length"]["multiply_adds"]
    assert "budget" not in record


@pytest.mark.slow
def test_a_killed_run_of_several_processes_ends_as_the_uninterrupted_one(
    command, interrupted, tmp_path
):
    overrides = [
        *SMALL, "trainer=ddp_cpu", "recipe=he_2015_110", "recipe.warm_up.until_error=89", "epochs=null",
        "recipe.steps=80", "recipe.reset_momentum_at_drops=true",
    ]  # fmt: skip
    result = command(*overrides, "hydra.run.dir=whole")
    assert result.returncode == 0, result.stderr
    once = "broken/checkpoints/last.ckpt"
    arguments = [*overrides, "checkpoint_minutes=0.0001", "hydra.run.dir=broken"]
    assert interrupted(*arguments, once=once, send=signal.SIGKILL)[0] == -9
    resumed = command("resume=broken")
    assert resumed.returncode == 0, resumed.stderr
    records = [json.loads((tmp_path / name / "run.json").read_text()) for name in ("whole", "broken")]
    assert records[0]["results"] == records[1]["results"]
    ours, theirs = weights(tmp_path / "broken"), weights(tmp_path / "whole")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
