"""The recipe's optimizer and schedule, made from their options, which may be of any kind."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from densenet_cli.config.build import build_later
from densenet_cli.options import OptionError, UserError
from densenet_cli.plain_text import first_line
from densenet_cli.training import fine_tuning

FUSED_FORMS = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)  # on CPUs and CUDA


def optimizer(
    options: dict[str, Any], fused: bool, layer_decay: float, network: nn.Module
) -> torch.optim.Optimizer:
    """The recipe's optimizer; with `fused`, in its fastest form unless the recipe names a form."""
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
        raise UserError(f"recipe.optimizer: {options['_target_']}: {error}") from error


def try_out(make_optimizer: Callable[[nn.Module], torch.optim.Optimizer], target: str) -> None:
    """Make one step of one weight, so that an optimizer for other purposes is known at once.

    Raises:
        UserError: as SparseAdam does, which takes sparse gradients only.
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


def memory_format(optimizer: str) -> torch.memory_format:
    """How weights lie in memory: channels last, but for an optimizer that takes them as vectors."""
    return torch.contiguous_format if optimizer.endswith(".LBFGS") else torch.channels_last


def schedule(options: dict[str, Any]) -> Callable[..., Any]:
    """The recipe's schedule, which waits for its optimizer.

    Args:
        options: `_target_` and its arguments; `schedulers` among them are such options each, as of the
            parts of torch's SequentialLR.

    Raises:
        UserError: if the target can't be found, has no such option, or lacks one.
    """
    parts = options.get("schedulers")
    if parts is None:
        return _complete(options)
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        rule = "must be a list of schedules, each with a _target_ and its options"
        raise OptionError("recipe.schedule.schedulers", parts, rule)
    made = [schedule(part) for part in parts]
    others = {name: value for name, value in options.items() if name != "schedulers"}
    return functools.partial(_complete(others, "schedulers"), schedulers=made)


def _complete(options: dict[str, Any], *given: str) -> functools.partial[Any]:
    """A schedule with its options set. Raises UserError if it needs others, which nobody gives it."""
    make = build_later("recipe.schedule", options)
    parameters = inspect.signature(make).parameters
    needed = [
        name
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    own = ["optimizer"] if "optimizer" in parameters else needed[:1]  # whatever it is called
    lacking = [name for name in needed if name not in (*own, "epochs", "total_steps", *given)]
    if lacking:
        words = " ".join(f"+recipe.schedule.{name}=..." for name in lacking)
        raise UserError(f"recipe.schedule: {options['_target_']} needs more options; type {words}")
    return make


def _has_fused_form(make: functools.partial[Any], device: str) -> bool:
    chosen = {"fused", "foreach", "differentiable"} & make.keywords.keys()
    return make.func in FUSED_FORMS and device in ("cpu", "cuda") and not chosen
