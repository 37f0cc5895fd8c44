"""How long a run trains, by its budget or trainer.max_steps; its parts then keep to it."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as L
from torch import nn

from densenet_cli.config.build import naming
from densenet_cli.data.image_data import ImageData
from densenet_cli.models import cost
from densenet_cli.options import UserError, whole_number
from densenet_cli.plain_text import first_line
from densenet_cli.run import budget
from densenet_cli.run.budget import Epoch, Length
from densenet_cli.training.classifier import ImageClassifier
from densenet_cli.training.last_step import LastStep


def keep_to_length(
    config: dict[str, Any],
    known: Length | None,
    data: ImageData,
    classifier: ImageClassifier,
    trainer: L.Trainer,
) -> Length | None:
    """Let a run train as long as its budget says, or trainer.max_steps; else nothing changes.

    Args:
        config: the resolved configuration.
        known: how long that is, of a run that is resumed, or whose steps were measured.
        data: of the run.
        classifier, trainer: of the run; they are changed.

    Returns:
        How long it trains; None without a budget.

    Raises:
        OptionError: as `budget.read` and `budget.length`, and for recipe.epochs and trainer.max_steps.
    """
    chosen, most = budget.read(config), config["trainer"].get("max_steps")
    if config["task"] == "test" or (chosen is None and most in (None, -1)):
        return None
    epoch = epoch_of(data, trainer)
    if chosen is None:
        steps = min(whole_number("trainer.max_steps", most, 1000), config["epochs"] * epoch.steps)
        if steps:  # else trainer.limit_train_batches leaves no batch
            classifier.epochs = config["epochs"]
            _end_after(steps, epoch, classifier, trainer)
        return None
    if known is None:
        forward = forward_multiply_adds(classifier.network, data)
        known = budget.length(config, chosen, epoch, forward)
    _end_after(known.steps, epoch, classifier, trainer)
    classifier.is_spread = True
    own_epochs = config["recipe"].get("epochs", config["epochs"])  # a recipe of the user's may lack it
    classifier.epochs = whole_number("recipe.epochs", own_epochs, example=300)
    return known


def _end_after(steps: int, epoch: Epoch, classifier: ImageClassifier, trainer: L.Trainer) -> None:
    trainer.fit_loop.max_epochs = -(-steps // epoch.steps)
    trainer.callbacks.insert(0, LastStep(steps))  # type: ignore[attr-defined]
    classifier.steps = steps


def epoch_of(data: ImageData, trainer: L.Trainer) -> Epoch:
    """The size of an epoch of a run."""
    with naming("data"):
        order = data.epoch_order(world_size=trainer.world_size)
    batches = budget.limited(len(order), trainer.limit_train_batches)
    return Epoch(
        min(order.images, batches * data.batch_size), data.batch_size * trainer.accumulate_grad_batches
    )


def forward_multiply_adds(network: nn.Module, data: ImageData) -> int:
    """Multiply-adds of a forward pass over one image of a data set.

    Raises:
        UserError: if the network cannot take images of this size.
    """
    height, width = data.image_size
    try:
        return cost.multiply_adds(network, (height, width))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise UserError(
            f"this network cannot take images of {height} x {width} pixels: {first_line(error)}"
        ) from error
