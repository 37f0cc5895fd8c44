"""Checks of the options that belong to no single part, and of those that depend on several parts."""

from __future__ import annotations

import functools
import logging
from typing import Any

import lightning.pytorch as L
import torch
from torch import nn

from densenet_cli.config.build import naming
from densenet_cli.data.epoch_order import EpochOrder
from densenet_cli.data.image_data import ImageData
from densenet_cli.models import cost
from densenet_cli.options import OptionError, choice, number, switch, whole_number
from densenet_cli.record import run_length
from densenet_cli.run import budget

log = logging.getLogger(__name__)


def check(config: dict[str, Any]) -> None:
    """Check the options that belong to no single part. Raises OptionError."""
    run_length.check(config)
    budget.read(config)
    seed = whole_number("seed", config["seed"], example=0, at_least=0)
    if seed >= 2**32:
        raise OptionError("seed", seed, "must be below 4294967296 (32 bits)", 0)
    number("checkpoint_minutes", config["checkpoint_minutes"], example=10, above=0)
    choice("task", config["task"], ["train", "test"])
    if config["resume"] is not None:
        raise OptionError("resume", config["resume"], "must be typed without + before it")
    _check_checkpoint(config["checkpoint"], config["task"] == "test")
    _check_pretrained(config["pretrained"])
    recipe = config["recipe"]
    choice("recipe.report", recipe["report"], ["last", "best"])
    number("recipe.optimizer.lr", recipe["optimizer"].get("lr"), example=0.1, above=0)
    if recipe["gradient_clip"] is not None:
        number("recipe.gradient_clip", recipe["gradient_clip"], example=1, above=0)
    if recipe["ema_decay"] is not None:
        number("recipe.ema_decay", recipe["ema_decay"], example=0.999, above=0, below=1)
    if (share := recipe.get("ema_share")) is not None:
        number("recipe.ema_share", share, example=0.04, above=0, below=1)
        if recipe["ema_decay"] is not None:
            rule = "says the same as recipe.ema_decay; type null for one of them"
            raise OptionError("recipe.ema_share", share, rule)


def _check_checkpoint(checkpoint: Any, is_test: bool) -> None:
    if is_test and checkpoint is None:
        example = "outputs/<run>/checkpoints/best.ckpt"
        raise OptionError("checkpoint", None, "task=test needs a trained network", example)
    if checkpoint is not None and not is_test:
        rule = "is for task=test; a run is resumed by resume=<its folder>"
        raise OptionError("checkpoint", checkpoint, rule)


def _check_pretrained(options: dict[str, Any]) -> None:
    frozen = switch("pretrained.frozen", options["frozen"])
    decay = number("pretrained.layer_decay", options["layer_decay"], example=0.8, above=0, at_most=1)
    if options["weights"] is None and (frozen or decay != 1):
        name, value = ("frozen", frozen) if frozen else ("layer_decay", decay)
        raise OptionError(f"pretrained.{name}", value, "needs pretrained.weights=<a file>")


def check_report(config: dict[str, Any], data: ImageData) -> None:
    """Check that the test images do not choose the epoch that is reported. Raises OptionError."""
    wants_best = config["task"] == "train" and config["recipe"]["report"] == "best"
    if wants_best and data.evaluation_split != "validation":
        example = max(1, data.sizes["train"] // 10)
        rule = f"needs held-out images to choose the epoch by; for example data.validation={example}"
        raise OptionError("recipe.report", "best", rule)


def check_batch_size(batch_size: int, processes: int) -> None:
    """Check that a batch can be shared equally by the devices. Raises OptionError."""
    if batch_size % processes:
        rule = f"is shared by {processes} devices and must be a multiple of {processes}"
        example = processes * max(1, round(batch_size / processes))
        raise OptionError("data.batch_size", batch_size, rule, example)


def check_last_batch(
    config: dict[str, Any], data: ImageData, network: nn.Module, trainer: L.Trainer
) -> None:
    """Refuse a last batch of one image, hours before it comes, if the network cannot learn from it.

    Batch norm needs two values per channel to compute a variance: a single image whose feature maps
    have one pixel gives one.

    Raises:
        OptionError: for data.batch_size, or for data.drop_last if it leaves no batch.
    """
    order = functools.partial(data.epoch_order, world_size=trainer.world_size)
    with naming("data"):
        own = order()
    is_synced = bool(config["trainer"].get("sync_batchnorm")) and trainer.world_size > 1
    ends = (config["trainer"].get("max_steps"), run_length.chosen_steps(config))
    is_reached = _is_reached(own, trainer, [end for end in ends if end not in (None, -1)])
    if config["task"] == "test" or own.last > 1 or is_synced or not is_reached:
        return
    height, width = data.train_image_size
    try:
        with torch.no_grad():
            cost.without_memory(network)(torch.empty(1, data.channels, height, width, device="meta"))
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        sizes = range(data.batch_size, data.sizes["train"] + 1, trainer.world_size)
        example = next((size for size in sizes if order(batch_size=size).last > 1), None)
        rule = (
            f"leaves a single image for the last batch of the {data.sizes['train']} training images, "
            "from which this network's batch normalisation cannot learn"
        )
        raise OptionError("data.batch_size", data.batch_size, rule, example) from error
    except (RuntimeError, NotImplementedError) as error:
        log.info("whether the network can learn from a single image is not known: %s", error)


def _is_reached(order: EpochOrder, trainer: L.Trainer, steps: list[int]) -> bool:
    """Whether training of so many steps at most reaches a batch as small as an epoch's last one."""
    batches, limit = len(order), trainer.limit_train_batches
    most = limit if isinstance(limit, int) else int(batches * limit)
    most = min([most, *(end * trainer.accumulate_grad_batches for end in steps)])
    return most >= batches or order.last * order.world_size == order.batch_size
