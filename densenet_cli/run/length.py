"""How long a run trains, by its budget, recipe.steps or trainer.max_steps; its parts keep to it."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as L
from torch import nn

from densenet_cli.config.build import naming
from densenet_cli.data.image_data import ImageData
from densenet_cli.models import cost
from densenet_cli.options import OptionError, UserError, whole_number
from densenet_cli.plain_text import first_line
from densenet_cli.record.run_length import chosen_steps
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
    """Let a run train as long as its budget or recipe.steps says, at most trainer.max_steps.

    Otherwise nothing changes: a run in epochs.

    Args:
        config: the resolved configuration.
        known: how long that is, of a run that is resumed, or whose steps were measured.
        data: of the run.
        classifier, trainer: of the run; they are changed.

    Returns:
        How long it trains under a budget or by recipe.steps; else None.

    Raises:
        OptionError: as `budget.read` and `budget.length`, and for recipe.epochs and trainer.max_steps;
            for recipe.steps if there are no training batches.
    """
    if config["task"] == "test":
        return None
    epoch, chosen = epoch_of(data, trainer), budget.read(config)
    if chosen is None:
        if classifier.warm_up is not None:
            classifier.warm_up.count_in_steps(epoch.steps)
        return _keep_to_steps(config, epoch, data, classifier, trainer)
    if known is None:
        forward = trained_multiply_adds(classifier.network, data)
        known = budget.length(config, chosen, epoch, forward)
    _end_after(known.steps, epoch, classifier, trainer)
    classifier.is_spread = True
    classifier.epochs = _epochs_of_recipe(config, epoch)
    if classifier.warm_up is not None:
        own_steps = config["recipe"].get("steps") or classifier.epochs * epoch.steps
        classifier.warm_up.count_in_steps(epoch.steps, known.steps / own_steps)
    return known


def _keep_to_steps(
    config: dict[str, Any],
    epoch: Epoch,
    data: ImageData,
    classifier: ImageClassifier,
    trainer: L.Trainer,
) -> Length | None:
    """As `keep_to_length`, of a run without a budget."""
    own, most = chosen_steps(config), config["trainer"].get("max_steps")
    if own is None and most in (None, -1):
        return None
    if own is not None and not epoch.steps:
        rule = "needs training batches; trainer.limit_train_batches leaves none"
        raise OptionError("recipe.steps", own, rule)
    epochs = config["epochs"] if own is None else -(-own // epoch.steps)
    steps = epochs * epoch.steps if own is None else own
    if most not in (None, -1):
        steps = min(whole_number("trainer.max_steps", most, 1000), steps)
    if steps:  # else trainer.limit_train_batches leaves no batch
        classifier.epochs = epochs
        _end_after(steps, epoch, classifier, trainer)
    if own is None:
        return None
    forward = trained_multiply_adds(classifier.network, data)
    return budget.of_steps(config, str(own), steps, epoch, forward)


def _epochs_of_recipe(config: dict[str, Any], epoch: Epoch) -> int:
    """The epochs of the recipe itself, which a budget replaces; the last one may be a part of one."""
    recipe = config["recipe"]
    if recipe.get("steps") is not None:
        return -(-recipe["steps"] // epoch.steps)
    own = recipe.get("epochs", config["epochs"])  # a recipe of the user's may lack it
    return whole_number("recipe.epochs", own, example=300)


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


def forward_multiply_adds(
    network: nn.Module, data: ImageData, size: tuple[int, int] | None = None
) -> int:
    """Multiply-adds of a forward pass over one image of a data set, or of another size than its images.

    Raises:
        UserError: if the network cannot take images of this size.
    """
    height, width = size or data.image_size
    try:
        return cost.multiply_adds(network, (height, width), data.channels)
    except (RuntimeError, ValueError, AssertionError) as error:
        raise UserError(
            f"this network cannot take images of {height} x {width} pixels: {first_line(error)}"
        ) from error


def trained_multiply_adds(network: nn.Module, data: ImageData, forward: int | None = None) -> int:
    """Those of a forward pass in training, on average: without what stochastic depth leaves out.

    Args:
        network: of the run.
        data: of the run.
        forward: `forward_multiply_adds` of both, if they are known.

    Raises:
        UserError: as `forward_multiply_adds`.
    """
    size = data.train_image_size
    if forward is None or size != data.image_size:
        forward = forward_multiply_adds(network, data, size)
    return forward - cost.left_out_multiply_adds(network, size, data.channels)
