"""Learning-rate schedules of the papers; torch's own serve for the rest."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from densenet_cli.options import OptionError, number


def constant(optimizer: Optimizer) -> LambdaLR:
    """Leave the rate as it is."""
    return LambdaLR(optimizer, lambda completed: 1.0)


def divide_when_reached(
    optimizer: Optimizer, epochs: int, fractions: Sequence[float], divisor: float = 10.0
) -> LambdaLR:
    """Divide the rate from the epoch on whose number, counted from 1, reaches fraction x epochs.

    This is the rule of the Torch7 code behind the ResNet and DenseNet papers (fb.resnet.torch and
    liuzhuang13/DenseNet, train.lua): of 300 epochs with fractions 0.5 and 0.75, number 150 is the
    first at the lower rate, after 149 whole epochs.

    Args:
        optimizer: its rates are multiplied.
        epochs: epochs of the whole run.
        fractions: each above 0 and below 1.
        divisor: at each fraction the rate is divided by it.
    """
    _check(fractions, divisor)
    # The tolerance keeps a rounded fraction of 81/164 at epoch 81.
    drops = [math.ceil(fraction * epochs - 1e-4) - 1 for fraction in fractions]
    return _divide_after(optimizer, drops, divisor)


def divide_when_completed(
    optimizer: Optimizer, epochs: int, fractions: Sequence[float], divisor: float = 10.0
) -> LambdaLR:
    """Divide the rate as soon as fraction x epochs are completed.

    The rule for ImageNet in the Torch7 code (of 90 epochs, numbers 31 and 61 are the first at lower
    rates) and of Wide ResNet (60, 120, 160 of 200). Arguments as `divide_when_reached`.
    """
    _check(fractions, divisor)
    drops = [math.ceil(fraction * epochs - 1e-4) for fraction in fractions]
    return _divide_after(optimizer, drops, divisor)


def _divide_after(optimizer: Optimizer, drops: Sequence[int], divisor: float) -> LambdaLR:
    """Divide the rate after each number of completed epochs."""

    def factor(completed: int) -> float:
        return divisor ** -sum(completed >= drop for drop in drops)

    return LambdaLR(optimizer, factor)


def _check(fractions: Sequence[float], divisor: float) -> None:
    number("divisor", divisor, example=10, above=0)
    try:
        for fraction in fractions:
            number("fractions", fraction, example=0.5, above=0, below=1)
    except (OptionError, TypeError):
        raise OptionError(
            "fractions", fractions, "must be numbers between 0 and 1", [0.5, 0.75]
        ) from None
