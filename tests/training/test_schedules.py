import pytest
import torch
from tiny_run import TINY
from torch import nn

from densenet_cli.config.build import build_later
from densenet_cli.options import OptionError
from densenet_cli.training import schedules


def _rates(make_schedule, epochs, rate=0.1):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=rate)
    schedule = make_schedule(optimizer, epochs=epochs)
    rates = []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


def _first_epochs_at_lower_rates(rates):
    """Epochs are counted from 1, as in the Torch7 logs."""
    return [number for number in range(2, len(rates) + 1) if rates[number - 1] < rates[number - 2]]


def test_fractions_scale_with_the_epochs():
    def make(optimizer, epochs):
        return schedules.divide_when_reached(optimizer, epochs, fractions=[0.5, 0.75])

    assert _first_epochs_at_lower_rates(_rates(make, 40)) == [20, 30]
    assert _first_epochs_at_lower_rates(_rates(make, 3)) == [2, 3]


def test_fractions_of_the_steps_may_fall_within_an_epoch():
    def make(optimizer, epochs):
        return schedules.divide_at_steps(optimizer, epochs, fractions=[0.5, 0.75])

    assert _first_epochs_at_lower_rates(_rates(make, 64)) == [33, 49]
    assert _first_epochs_at_lower_rates(_rates(make, 7)) == [5, 7]


@pytest.mark.parametrize("fractions", [[0.5, 1.5], [0], "half", 0.5, [None]])
def test_wrong_fractions_are_refused(fractions):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    with pytest.raises(OptionError, match=r"fractions=.*between 0 and 1"):
        schedules.divide_when_reached(optimizer, 10, fractions)


def test_one_cycle_spans_all_steps_of_the_run(typed, tmp_path):
    status, message = typed(*TINY, "hydra.run.dir=outputs/run")
    assert status == 0, message
    checkpoint = torch.load(tmp_path / "outputs/run/checkpoints/last.ckpt", weights_only=True)
    (state,) = checkpoint["lr_schedulers"]
    assert state["total_steps"] == checkpoint["global_step"] == 2 * 23


def test_inverse_time_is_the_decay_of_keras_by_steps(config):
    recipe = config("recipe=inverse_time")["recipe"]
    make = build_later("recipe.schedule", recipe["schedule"])
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(1))], lr=recipe["optimizer"]["lr"])
    schedule = schedules.complete(make, optimizer, epochs=10, total_steps=150)
    rates, expected = [], []
    for iterations in range(150):
        rates.append(optimizer.param_groups[0]["lr"])
        expected.append(0.002 * (1.0 / (1.0 + 0.01 * iterations)))  # keras/optimizers.py of 2.2
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx(expected)
    assert rates[100] == pytest.approx(0.001)


@pytest.mark.parametrize("decay", [-0.01, "slow", None])
def test_a_wrong_decay_is_refused(decay):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    with pytest.raises(OptionError, match=r"decay=.*for example decay=0\.01"):
        schedules.inverse_time(optimizer, 10, decay)


def test_inverse_time_advances_every_step_of_a_run(typed, tmp_path):
    status, message = typed(*TINY, "recipe=inverse_time", "hydra.run.dir=outputs/run")
    assert status == 0, message
    checkpoint = torch.load(tmp_path / "outputs/run/checkpoints/last.ckpt", weights_only=True)
    (state,), (group,) = checkpoint["lr_schedulers"], checkpoint["optimizer_states"][0]["param_groups"]
    steps = checkpoint["global_step"]
    assert state["last_epoch"] == steps > 2
    assert float(group["lr"]) == pytest.approx(0.002 / (1 + 0.01 * steps))
