"""Learning-rate schedules of the papers; for others, those of torch are used."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from densenet_cli.options import OptionError, number


def complete(make: Callable[..., Any], optimizer: Optimizer, epochs: int, total_steps: int) -> Any:
    """A schedule, called with the arguments that only a run knows.

    Args:
        make: optimizer -> schedule. It may be a partial function whose arguments include `schedulers`,
            a list of such functions: the parts of torch's SequentialLR, for example.
        optimizer: its learning rates are changed.
        epochs: epochs of the run; passed on if `make` has this argument, and it is not set.
        total_steps: steps of the run; the same.
    """
    parameters, chosen = inspect.signature(make).parameters, getattr(make, "keywords", {})
    given: dict[str, Any] = {
        name: value
        for name, value in (("epochs", epochs), ("total_steps", total_steps))
        if name in parameters and chosen.get(name) is None
    }
    if "max_lr" in chosen:  # scaled as the learning rate of each parameter group
        lr, max_lr = optimizer.defaults["lr"], chosen["max_lr"]
        given["max_lr"] = [max_lr * group["lr"] / lr for group in optimizer.param_groups]
    if "schedulers" in chosen:
        given["schedulers"] = [
            complete(part, optimizer, epochs, total_steps) for part in chosen["schedulers"]
        ]
    if "optimizer" in parameters:
        return make(optimizer=optimizer, **given)
    return make(optimizer, **given)


def constant(optimizer: Optimizer) -> LambdaLR:
    """Keep the learning rate constant."""
    return LambdaLR(optimizer, lambda completed: 1.0)


def inverse_time(optimizer: Optimizer, total_steps: int, decay: float) -> LambdaLR:
    """Divide the first learning rate by 1 + decay x completed steps, as Keras' optimizers do.

    That is what their argument `decay` means (keras/optimizers.py of version 2.2).

    Args:
        optimizer: its learning rates are changed.
        total_steps: has no effect; a schedule with this argument advances every step.
        decay: 0 or more; after 1 / decay steps the learning rate is halved.

    Raises:
        OptionError: decay is no such number.
    """
    number("decay", decay, example=0.01, at_least=0)
    return LambdaLR(optimizer, lambda completed: 1 / (1 + decay * completed))


def divide_when_reached(
    optimizer: Optimizer, epochs: int, fractions: Sequence[float], divisor: float = 10.0
) -> LambdaLR:
    """Divide the learning rate at the epoch whose number, counted from 1, reaches fraction x epochs.

    This is the rule of the Torch7 code of the ResNet and DenseNet papers (fb.resnet.torch and
    liuzhuang13/DenseNet, train.lua), of stochastic depth (main.lua) and of Wide ResNet (train.lua):
    with 300 epochs and fractions 0.5 and 0.75, epoch 150 is the first with the lower rate, after 149
    complete epochs.

    Args:
        optimizer: its learning rates are changed.
        epochs: epochs of the whole run.
        fractions: each above 0 and below 1.
        divisor: the learning rate is divided by it at each fraction.

    Raises:
        OptionError: for fractions or divisor.
    """
    _check(fractions, divisor)
    # The tolerance keeps a rounded fraction of 81/164 at epoch 81.
    drops = [math.ceil(fraction * epochs - 1e-4) - 1 for fraction in fractions]
    return _divide_after(optimizer, drops, divisor)


def divide_when_completed(
    optimizer: Optimizer, epochs: int, fractions: Sequence[float], divisor: float = 10.0
) -> LambdaLR:
    """Divide the learning rate as soon as fraction x epochs are completed.

    This is the rule for ImageNet in the Torch7 code: with 90 epochs, epochs 31 and 61 are the first
    with a lower rate. Arguments and errors as `divide_when_reached`.
    """
    _check(fractions, divisor)
    drops = [math.ceil(fraction * epochs - 1e-4) for fraction in fractions]
    return _divide_after(optimizer, drops, divisor)


def divide_at_steps(
    optimizer: Optimizer, total_steps: int, fractions: Sequence[float], divisor: float = 10.0
) -> LambdaLR:
    """Divide the learning rate as soon as fraction x steps are completed, also within an epoch.

    This is the rule of Caffe, in which He et al. trained their ResNets on CIFAR (arXiv:1512.03385,
    section 4.2, and arXiv:1603.05027, appendix): of 64,000 steps, the first 32,000 have the first rate,
    and the last 16,000 the lowest.

    Args:
        optimizer: its learning rates are changed.
        total_steps: of the whole run.
        fractions, divisor: as `divide_when_reached`.

    Raises:
        OptionError: for fractions or divisor.
    """
    _check(fractions, divisor)
    drops = [math.ceil(fraction * total_steps - 1e-4) for fraction in fractions]
    return _divide_after(optimizer, drops, divisor)


def _divide_after(optimizer: Optimizer, drops: Sequence[int], divisor: float) -> LambdaLR:
    """Divide the learning rate after each of these numbers of completed epochs, or steps."""

    def factor(completed: int) -> float:
        return divisor ** -sum(completed >= drop for drop in drops)

    return LambdaLR(optimizer, factor)


def clear_momentum(optimizer: Optimizer) -> bool:
    """Set the momentum of all parameters to 0, as the code of Wide ResNet does (train.lua).

    It is done in place, since recorded steps know where the momentum is.

    Returns:
        Whether the optimizer has any.
    """
    momenta = [state.get("momentum_buffer") for state in optimizer.state.values()]
    found = [momentum for momentum in momenta if isinstance(momentum, Tensor)]
    for momentum in found:
        momentum.zero_()
    return bool(found)


def _check(fractions: Sequence[float], divisor: float) -> None:
    number("divisor", divisor, example=10, above=0)
    try:
        for fraction in fractions:
            number("fractions", fraction, example=0.5, above=0, below=1)
    except (OptionError, TypeError):
        raise OptionError(
            "fractions", fractions, "must be numbers between 0 and 1", [0.5, 0.75]
        ) from None
