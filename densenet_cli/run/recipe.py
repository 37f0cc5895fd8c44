"""The recipe's loss, optimizer and schedule; the latter two may be any of torch's or the user's."""

from __future__ import annotations

import functools
import inspect
import logging
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from densenet_cli.config.build import build_later, naming, refuse_name
from densenet_cli.data.image_data import ImageData
from densenet_cli.options import OptionError, UserError, choice, switch
from densenet_cli.plain_text import first_line
from densenet_cli.training import fine_tuning, losses, schedules
from densenet_cli.training.losses import Loss
from densenet_cli.training.mixing import Mixing
from densenet_cli.training.warm_up import WarmUp
from densenet_cli.training.weight_average import WeightAverage

log = logging.getLogger(__name__)

DROPPING = (  # the schedules of torch and ours that lower the rate now and then
    *("MultiStepLR", "StepLR", "ReduceLROnPlateau"),
    *("divide_when_reached", "divide_when_completed", "divide_at_steps"),
)
FUSED_FORMS = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)  # on CPUs and CUDA


def optimizer(
    options: dict[str, Any], fused: bool, layer_decay: float, network: nn.Module
) -> torch.optim.Optimizer:
    """The recipe's optimizer.

    Args:
        options: `_target_` and its arguments.
        fused: whether to use the optimizer's fused implementation, if it has one and the recipe chooses
            no other.
        layer_decay: see `fine_tuning.parameter_groups`.
        network: its parameters are optimized.

    Raises:
        UserError: if the optimizer refuses its options.
    """
    make = build_later("recipe.optimizer", options)
    groups: Any = list(network.parameters())
    device = groups[0].device.type
    if layer_decay != 1 or not all(parameter.requires_grad for parameter in groups):
        groups = fine_tuning.parameter_groups(network, options["lr"], layer_decay)
    try:
        if fused and _has_fused_form(make, device):
            return make(groups, fused=True)
        return make(groups)
    except (TypeError, ValueError) as error:
        reason = f"{options['_target_']}: {first_line(error)}"
        if guilty := re.match(
            r"Invalid (\w+) value: ", str(error)
        ):  # PyTorch's words, as of weight_decay
            name = guilty[1] if guilty[1] in options else "lr"
            raise OptionError(f"recipe.optimizer.{name}", options[name], reason, 0) from error
        raise UserError(f"recipe.optimizer: {reason}") from error


def try_out(
    make_optimizer: Callable[[nn.Module], torch.optim.Optimizer], target: str
) -> torch.optim.Optimizer:
    """Optimize one weight for one step, to refuse at once an optimizer that cannot train a network.

    Returns:
        The optimizer after this step.

    Raises:
        UserError: for SparseAdam, for example, which needs sparse gradients.
    """
    network = nn.Linear(1, 1)
    optimizer = make_optimizer(network)

    def closure() -> float:
        optimizer.zero_grad()
        loss = network(torch.ones(1, 1)).sum()
        loss.backward()
        return float(loss.detach())

    try:
        optimizer.step(closure)
    except (RuntimeError, TypeError, ValueError) as error:
        reason = first_line(error)
        raise UserError(f"recipe.optimizer: {target} cannot train a network: {reason}") from error
    return optimizer


def memory_format(optimizer: str) -> torch.memory_format:
    """The memory format of weights: channels last, except for LBFGS, which views them as vectors."""
    return torch.contiguous_format if optimizer.endswith(".LBFGS") else torch.channels_last


def schedule(options: dict[str, Any]) -> Callable[..., Any]:
    """The recipe's schedule, to be called with its optimizer; see `schedules.complete`.

    Args:
        options: `_target_` and its arguments. The argument `schedulers`, as of torch's SequentialLR,
            is a list of such options.

    Raises:
        UserError: if the target cannot be found, has no such option, or needs further ones.
    """
    parts = options.get("schedulers")
    if parts is None:
        return _complete(options)
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        rule = "must be a list of schedules, each with a _target_ and its options"
        raise OptionError("recipe.schedule.schedulers", parts, rule)
    schedules = [schedule(part) for part in parts]
    others = {name: value for name, value in options.items() if name != "schedulers"}
    return functools.partial(_complete(others, "schedulers"), schedulers=schedules)


def loss(options: dict[str, Any], data: ImageData) -> Loss:
    """The recipe's loss.

    Args:
        options: the section `recipe`.
        data: whose labels it takes, and whose training images decide the class weights.

    Raises:
        OptionError: if an option does not fit these labels.
    """
    name = "class_weights"
    chosen, weights = choice(name, options.get(name), (None, "balanced")), None
    if chosen == "balanced":
        counts, known = data.class_counts()
        weights = losses.balanced_weights(counts, known, data.several_labels)
        missing = [data.class_names[index] for index in (counts == 0).nonzero().flatten()]
        if missing:
            text = "recipe.class_weights: no training image has the label %s: its weight is 1"
            log.warning(text, ", ".join(missing))
    return Loss(options.get("loss"), data.several_labels, options["label_smoothing"], weights)


def warm_up(options: Any, lr: float) -> WarmUp | None:
    """The recipe's warm-up; None if it has none.

    Args:
        options: arguments of `WarmUp`.
        lr: the recipe's learning rate; that of the warm-up is lower.

    Raises:
        OptionError: if an option is wrong.
    """
    if options is None:
        return None
    section = "recipe.warm_up"
    if not isinstance(options, dict):
        example = "{rate:0.01,steps:400}"
        raise OptionError(section, options, "must be null, or say a rate and when it ends", example)
    names = inspect.signature(WarmUp).parameters
    for name, value in options.items():
        if name not in names:
            refuse_name(section, name, value, names)
    with naming(section):
        made = WarmUp(**options)
    if made.rate >= lr:
        rule = f"must be below recipe.optimizer.lr={lr}, the learning rate after it"
        raise OptionError(f"{section}.rate", made.rate, rule, lr / 10)
    return made


def reset_momentum_at_drops(options: dict[str, Any], tried: torch.optim.Optimizer) -> bool:
    """Whether the momentum is cleared each time the schedule lowers the learning rate.

    Args:
        options: the section `recipe`.
        tried: its optimizer, after a step.

    Raises:
        OptionError: if the optimizer has no momentum, or the schedule lowers the rate gradually.
    """
    name = "recipe.reset_momentum_at_drops"
    if not switch(name, options.get("reset_momentum_at_drops", False)):
        return False
    schedule = options["schedule"]["_target_"]
    if not schedules.clear_momentum(tried):
        rule = "needs an optimizer with momentum, as torch.optim.SGD with recipe.optimizer.momentum=0.9"
        raise OptionError(name, True, rule)
    is_known = schedule.startswith(("torch.", "densenet_cli."))  # else it is the user's
    if is_known and schedule.rpartition(".")[2] not in DROPPING:
        rule = f"needs a schedule that lowers the learning rate now and then, which {schedule} does not"
        raise OptionError(name, True, rule)
    return True


def mixing(options: dict[str, Any], classes: int) -> Mixing | None:
    """What mixes training images and labels; None if the recipe asks for neither mixup nor CutMix.

    Args:
        options: the section `recipe`.
        classes: their number.

    Raises:
        OptionError: if an option is wrong.
    """
    made = Mixing(classes, options.get("mixup", 0.0), options.get("cutmix", 0.0))
    return made if made.mixup or made.cutmix else None


def weight_average(options: dict[str, Any]) -> list[WeightAverage]:
    """What averages the weights: one or none.

    Args:
        options: the section `recipe`.
    """
    decay, share = options["ema_decay"], options.get("ema_share")
    return [] if decay is None and share is None else [WeightAverage(decay, share)]


def _complete(options: dict[str, Any], *given: str) -> functools.partial[Any]:
    """A schedule with its options. Raises UserError if it needs options that are not given."""
    make = build_later("recipe.schedule", options)
    parameters = inspect.signature(make).parameters
    needed = [
        name
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    own = ["optimizer"] if "optimizer" in parameters else needed[:1]  # whatever its name is
    lacking = [name for name in needed if name not in (*own, "epochs", "total_steps", *given)]
    if lacking:
        overrides = " ".join(f"+recipe.schedule.{name}=..." for name in lacking)
        raise UserError(f"recipe.schedule: {options['_target_']} needs more options; type {overrides}")
    return make


def _has_fused_form(make: functools.partial[Any], device: str) -> bool:
    chosen = {"fused", "foreach", "differentiable"} & make.keywords.keys()
    return make.func in FUSED_FORMS and device in ("cpu", "cuda") and not chosen
