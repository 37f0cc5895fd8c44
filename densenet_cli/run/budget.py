"""budget=: how much a run trains, as multiply-adds, minutes or epochs, and how many steps that is.

The multiply-adds of training are 3 x those of a forward pass x the images trained on: a backward pass
computes the gradients of feature maps and of weights, each as much as the forward pass. Blocks that
stochastic depth drops are not computed: each counts by its chance, as on average. Evaluations are not
counted, nor what `cost.multiply_adds` leaves out, such as batch norm. Minutes are those of training
steps with their batches, without start, compilation, evaluations and checkpoints.

A run ends after the last step that its budget pays for, also within an epoch. It is then evaluated as
after a whole one. Its schedule is that of the recipe, over all steps: see `ImageClassifier.epochs`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from densenet_cli.options import OptionError, shown
from densenet_cli.plain_text import counted
from densenet_cli.units import typed_number

PASSES = 3  # of training an image, each as costly as the forward pass
UNITS = ("", "min", "epochs")  # "": multiply-adds
RULE = "must be multiply-adds of training (1e15), minutes (10min) or epochs (20epochs), above 0"
# Arguments of Lightning's Trainer that also say when training ends.
OTHER_ENDS = ("max_steps", "max_time", "min_steps", "min_epochs")


@dataclass(frozen=True)
class Budget:
    """A budget as typed.

    Attributes:
        typed: the value.
        amount: multiply-adds, minutes or epochs.
        unit: one of UNITS.
    """

    typed: Any
    amount: float
    unit: str

    @property
    def text(self) -> str:
        """The value as one types it: 1e15, 10min."""
        return f"{typed_number(self.amount)}{self.unit}"

    def refused(self, rule: str, least: float | None = None) -> OptionError:
        """The error for a budget that breaks a rule; `least` is an amount that works."""
        example = None if least is None else f"{typed_number(least)}{self.unit}"
        return OptionError("budget", self.text, rule, example)


@dataclass(frozen=True)
class Epoch:
    """The size of an epoch.

    Attributes:
        images: trained on in an epoch, by all processes together.
        step_images: trained on in a step; the last step of an epoch may have fewer.
    """

    images: int
    step_images: int

    @property
    def steps(self) -> int:
        """Steps in an epoch."""
        return -(-self.images // self.step_images)

    def images_of(self, steps: int) -> int:
        """The images trained on in the first steps of a run."""
        epochs, rest = divmod(steps, self.steps)
        return epochs * self.images + min(rest * self.step_images, self.images)

    def steps_of(self, images: int) -> int:
        """The most steps that train on no more than these images."""
        epochs, rest = divmod(images, self.images)
        return epochs * self.steps + rest // self.step_images


@dataclass(frozen=True)
class Length:
    """How long a run trains, as run.json holds it: `budget`, or `length` of a run by recipe.steps.

    Attributes:
        planned: the budget as typed; or recipe.steps.
        steps: of the whole run.
        steps_per_epoch: in a whole epoch.
        epochs: the same number of steps in epochs; the last one may be a part of one.
        multiply_adds: of training; None if they cannot be counted.
        multiply_adds_per_step: of a step with a whole batch; the same.
        seconds_per_step: as measured before training, for a budget in minutes; else None.
    """

    planned: str
    steps: int
    steps_per_epoch: int
    epochs: float
    multiply_adds: int | None
    multiply_adds_per_step: int | None
    seconds_per_step: float | None

    @classmethod
    def recorded(cls, record: Mapping[str, Any]) -> Length | None:
        """That of a run which began before, from its run.json; None if it has not recorded one."""
        known = record.get("budget")
        return None if known is None else cls(**{one.name: known[one.name] for one in fields(cls)})


def read(config: Mapping[str, Any]) -> Budget | None:
    """The budget of a configuration; None if it has none, or does not train.

    Raises:
        OptionError: for `budget`, or for another option that also says when training ends.
    """
    typed = config.get("budget")
    if typed is None or config["task"] != "train":
        return None
    budget = _parsed(typed)
    for name in OTHER_ENDS:
        value = config["trainer"].get(name)
        if value is not None and (name, value) != ("max_steps", -1):
            rule = f"cannot be combined with budget={budget.text}, which sets when training ends"
            raise OptionError(f"trainer.{name}", value, rule)
    if not budget.unit and (reason := _uncountable(config)):
        raise budget.refused(f"multiply-adds cannot be counted, since {reason}; epochs can: 20epochs")
    return budget


def length(
    config: Mapping[str, Any],
    budget: Budget,
    epoch: Epoch,
    forward: int,
    seconds_per_step: float | None = None,
) -> Length:
    """How long a run trains.

    Args:
        config: the resolved configuration.
        budget: its budget.
        epoch: its size.
        forward: multiply-adds of a forward pass over one image in training.
        seconds_per_step: needed for a budget in minutes.

    Raises:
        OptionError: if the budget is too small for one epoch, or multiply-adds cannot be counted.
    """
    if not epoch.images:
        raise budget.refused("needs training batches; trainer.limit_train_batches leaves none")
    if not budget.unit and not forward:
        rule = "this network has no convolutions or matrix products to count; epochs can be counted"
        raise OptionError("budget", budget.text, rule, "20epochs")
    if budget.unit == "epochs":
        steps, an_epoch = int(budget.amount * epoch.steps + 1e-6), 1.0
    elif budget.unit == "min":
        assert seconds_per_step is not None
        steps = int(60 * budget.amount / seconds_per_step)
        an_epoch = seconds_per_step * epoch.steps / 60
    else:
        steps = epoch.steps_of(int(budget.amount) // (PASSES * forward))
        an_epoch = PASSES * forward * epoch.images
    if steps < epoch.steps:
        size = f"{counted(epoch.steps, 'step')}, {counted(epoch.images, 'image')}"
        raise budget.refused(f"is too small for one epoch ({size})", _rounded_up(an_epoch))
    return of_steps(config, budget.text, steps, epoch, forward, seconds_per_step)


def of_steps(
    config: Mapping[str, Any],
    planned: str,
    steps: int,
    epoch: Epoch,
    forward: int,
    seconds_per_step: float | None = None,
) -> Length:
    """What a number of steps comes to; arguments as `length`, attributes as `Length`."""
    each = training_multiply_adds(config, forward)
    return Length(
        planned=planned,
        steps=steps,
        steps_per_epoch=epoch.steps,
        epochs=round(steps / epoch.steps, 4),
        multiply_adds=None if each is None else each * epoch.images_of(steps),
        multiply_adds_per_step=None if each is None else each * epoch.step_images,
        seconds_per_step=seconds_per_step,
    )


def limited(batches: int, limit: float | None) -> int:
    """The batches of an epoch under a limit of the Trainer's: a number of them, or a share."""
    if limit is None:
        return batches
    return min(limit, batches) if isinstance(limit, int) else int(batches * limit)


def training_multiply_adds(config: Mapping[str, Any], forward: int) -> int | None:
    """Multiply-adds of training an image once; None if they cannot be counted.

    Args:
        config: the resolved configuration.
        forward: those of the forward pass.
    """
    return None if not forward or _uncountable(config) else PASSES * forward


def _parsed(typed: Any) -> Budget:
    text = "" if isinstance(typed, bool) else str(typed)
    found = re.fullmatch(rf"(\d+\.?\d*(?:e[+-]?\d+)?)({'|'.join(UNITS)})", text, re.IGNORECASE)
    amount = float(found[1]) if found else 0.0
    if found is None or not 0 < amount < math.inf:
        raise OptionError("budget", shown(typed), RULE, "10min")
    return Budget(typed, amount, found[2].lower())


def _uncountable(config: Mapping[str, Any]) -> str | None:
    """Why a step of training is not PASSES passes; None if it is."""
    if config["pretrained"]["frozen"]:
        return "pretrained.frozen=true trains the classifier only"
    if str(config["recipe"]["optimizer"]["_target_"]).endswith(".LBFGS"):
        return "LBFGS computes a batch several times"
    return None


def _rounded_up(amount: float) -> float:
    """To two digits."""
    unit = 10.0 ** (math.floor(math.log10(amount)) - 1)
    return math.ceil(amount / unit - 1e-9) * unit
