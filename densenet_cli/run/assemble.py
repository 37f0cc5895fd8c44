"""A configuration -> the parts of a run, each checked before the next and before any long work."""

from __future__ import annotations

import functools
import inspect
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.plugins.environments import (
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from rich.console import Console
from torch import nn

from densenet_cli.config.build import build, naming, refuse_name
from densenet_cli.data.epoch_order import EpochOrder
from densenet_cli.data.image_data import ImageData
from densenet_cli.models import cost, pretrained
from densenet_cli.options import OptionError, UserError, choice, number, shown, switch, whole_number
from densenet_cli.plain_text import first_line
from densenet_cli.process import ranks
from densenet_cli.run.recipe import memory_format, optimizer, schedule, try_out
from densenet_cli.training import allocator, devices, fine_tuning
from densenet_cli.training.checkpoints import Checkpoints, WholeFileCheckpointIO, load_checkpoint
from densenet_cli.training.classifier import ImageClassifier
from densenet_cli.training.finite_loss import FiniteLoss
from densenet_cli.training.interruption import Interruption
from densenet_cli.training.progress import TrainingProgress
from densenet_cli.training.watchdog import Watchdog

log = logging.getLogger(__name__)

# Arguments of Lightning's Trainer that have another place in our configuration.
TAKEN = {
    "max_epochs": "is set by epochs=",
    "logger": "is set by logger=",
    "default_root_dir": "is set by hydra.run.dir=",
    "gradient_clip_val": "is set by recipe.gradient_clip=",
    "callbacks": "cannot be typed",
    "plugins": "cannot be typed; trainer.precision= sets the number format",
    "enable_checkpointing": "cannot be changed: every run keeps last.ckpt and best.ckpt",
    "overfit_batches": "cannot be used: the order of the data is our own; limit_train_batches= can",
    "enable_model_summary": "cannot be changed; densenet-model summary shows the layers",
    "use_distributed_sampler": "cannot be changed: the data are shared out exactly",
}

CUDA_GRAPHS = ("auto", True, False)
UNFUSED = ("16-mixed", True)  # of trainer.precision and trainer.sync_batchnorm


@dataclass
class Job:
    """The parts of one run, put together."""

    config: dict[str, Any]
    folder: Path
    data: ImageData
    module: ImageClassifier
    trainer: L.Trainer
    progress: TrainingProgress
    keeper: Checkpoints
    device: str


def assemble(
    config: dict[str, Any],
    folder: Path,
    interruption: Interruption,
    on_epoch: Callable[[TrainingProgress], None],
) -> Job:
    """Build the parts of a run.

    Args:
        config: the resolved configuration.
        folder: where the run leaves everything.
        interruption: the signals to obey.
        on_epoch: called at each epoch's end, in every process, once its row of metrics is there.

    Raises:
        UserError: for an option that cannot work, named as it was typed.
    """
    check(config)
    allocator.keep_freed_memory()
    if config["task"] == "test":  # a wrong file is known before the data are read
        load_checkpoint(Path(config["checkpoint"]))
    L.seed_everything(config["seed"], verbose=False)
    options, device = _trainer_options(config["trainer"])
    cuda_graphs = _cuda_graphs(options, device)
    data = build("data", config["data"])
    with naming("data"):
        data.prepare()
    _check_report(config, data)
    module = _module(config, data, cuda_graphs)
    _choose_implementation(module.network, options, device)
    progress = TrainingProgress(
        Console() if ranks.is_first_process() else None,
        bool(options.pop("enable_progress_bar", True)),
        data.evaluation_split,
        on_epoch,
    )
    keeper = Checkpoints(
        folder / "checkpoints",
        f"{data.evaluation_split}/error",
        config["checkpoint_minutes"],
        interruption,
    )
    ema_decay = config["recipe"]["ema_decay"]
    ema = [] if ema_decay is None else [EMAWeightAveraging(decay=ema_decay)]
    trainer = _trainer(
        config, options, folder, [*ema, FiniteLoss(), Watchdog(interruption), progress, keeper]
    )
    _check_batch_size(config["data"]["batch_size"], trainer.world_size)
    if config["task"] == "train":
        _check_last_batch(data, module.network, trainer, bool(options.get("sync_batchnorm")))
    return Job(config, folder, data, module, trainer, progress, keeper, device)


def check(config: dict[str, Any]) -> None:
    """Check the options that belong to no part. Raises OptionError."""
    whole_number("epochs", config["epochs"], example=300)
    seed = whole_number("seed", config["seed"], example=0, at_least=0)
    if seed >= 2**32:
        raise OptionError("seed", seed, "must be below 4294967296 (32 bits)", 0)
    number("checkpoint_minutes", config["checkpoint_minutes"], example=10, above=0)
    choice("task", config["task"], ["train", "test"])
    if config["resume"] is not None:
        raise OptionError("resume", config["resume"], "must be typed without + before it")
    checkpoint, is_test = config["checkpoint"], config["task"] == "test"
    if is_test and checkpoint is None:
        example = "outputs/<run>/checkpoints/best.ckpt"
        raise OptionError("checkpoint", None, "task=test needs a trained network", example)
    if checkpoint is not None and not is_test:
        rule = "is for task=test; a run is continued by resume=<its folder>"
        raise OptionError("checkpoint", checkpoint, rule)
    _check_pretrained(config.get("pretrained", {}))
    recipe = config["recipe"]
    choice("recipe.report", recipe["report"], ["last", "best"])
    number("recipe.optimizer.lr", recipe["optimizer"].get("lr"), example=0.1, above=0)
    if recipe["gradient_clip"] is not None:
        number("recipe.gradient_clip", recipe["gradient_clip"], example=1, above=0)
    if recipe["ema_decay"] is not None:
        number("recipe.ema_decay", recipe["ema_decay"], example=0.999, above=0, below=1)


def _check_report(config: dict[str, Any], data: ImageData) -> None:
    """Refuse to let the test images choose the epoch that is reported."""
    wants_best = config["task"] == "train" and config["recipe"]["report"] == "best"
    if wants_best and data.evaluation_split != "validation":
        example = max(1, data.sizes["train"] // 10)
        rule = f"needs held-out images to choose the epoch by; for example data.validation={example}"
        raise OptionError("recipe.report", "best", rule)


def _check_pretrained(chosen: dict[str, Any]) -> None:
    weights, frozen = chosen.get("weights"), switch("pretrained.frozen", chosen.get("frozen", False))
    decay = chosen.get("layer_decay", 1)
    number("pretrained.layer_decay", decay, example=0.8, above=0, at_most=1)
    if weights is None and (frozen or decay != 1):
        name, value = ("frozen", frozen) if frozen else ("layer_decay", decay)
        raise OptionError(f"pretrained.{name}", value, "needs pretrained.weights=<a file>")


def _module(config: dict[str, Any], data: ImageData, cuda_graphs: bool) -> ImageClassifier:
    recipe = config["recipe"]
    network = build("model", config["model"], num_classes=data.num_classes)
    frozen = _pretrained(config, network, data.class_names)
    fused = recipe["gradient_clip"] is None  # Lightning clips no gradients of a fused optimizer
    layer_decay = config.get("pretrained", {}).get("layer_decay", 1)
    make_optimizer = functools.partial(optimizer, recipe["optimizer"], fused, layer_decay)
    try_out(make_optimizer, recipe["optimizer"]["_target_"])
    make_schedule = schedule(recipe["schedule"])
    with naming("recipe"):
        return ImageClassifier(
            network.to(memory_format=memory_format(recipe["optimizer"]["_target_"])),
            make_optimizer,
            make_schedule,
            data.num_classes,
            data.evaluation_split,
            seed=config["seed"],
            label_smoothing=recipe["label_smoothing"],
            frozen=frozen,
            cuda_graphs=cuda_graphs,
        )


def _pretrained(config: dict[str, Any], network: nn.Module, classes: list[str]) -> list[nn.Module]:
    """Load the weights that training begins with, if any; the modules that are frozen."""
    chosen = config.get("pretrained", {})
    weights = chosen.get("weights")
    if weights is None:
        return []
    if config["task"] == "train":
        name = _name_elsewhere(config, network)
        kept = pretrained.load_pretrained(network, str(weights), name, classes)
        what = f"all but {', '.join(kept)}, for other classes" if kept else "all of them"
        log.warning("begins with the weights of %s: %s", weights, what)
    if not chosen["frozen"]:
        return []
    return fine_tuning.frozen_around(network, pretrained.classifier(network)[1])


def _name_elsewhere(config: dict[str, Any], network: nn.Module) -> str | None:
    """What torchvision and timm call a network."""
    name = config["model"].get("name")
    is_dense = name is None and config["model"].get("stem") == "imagenet"
    return f"densenet{getattr(network, 'depth', '')}" if is_dense else name


def _choose_implementation(network: nn.Module, options: dict[str, Any], device: str) -> None:
    """Settle how a network that can be computed in several ways is computed, and prepare for it."""
    choose = getattr(network, "choose_implementation", None)
    if choose is None:
        return
    unfit = [
        f"trainer.{name}" for name in ("precision", "sync_batchnorm") if options.get(name) in UNFUSED
    ]
    if not unfit:
        with naming("model"):
            choose(device)
        return
    if network.implementation == "fused":
        rule = f"cannot be had with {unfit[0]}={shown(options[unfit[0].partition('.')[2]])}"
        raise OptionError("model.implementation", "fused", rule, "auto")
    setattr(network, "implementation", "reference")  # noqa: B010 -- of a kind that mypy cannot know


def _trainer_options(chosen: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The arguments for Lightning's Trainer that the user chose, and the device: cpu, cuda or mps."""
    options = dict(chosen)
    names = [name for name in inspect.signature(L.Trainer).parameters if name not in TAKEN]
    names.append("cuda_graphs")
    for name, value in options.items():
        if name in TAKEN:
            raise OptionError(f"trainer.{name}", value, TAKEN[name])
        if name not in names:
            refuse_name("trainer", name, value, names)
    choice("trainer.precision", options["precision"], devices.PRECISIONS)
    device = devices.accelerator(options["accelerator"])
    if not devices.is_available(device):
        rule = "torch finds no such device here"
        raise OptionError("trainer.accelerator", options["accelerator"], rule, "cpu")
    if options["precision"] == "16-mixed" and device == "cpu":
        rule = "is for GPUs; CPUs compute in bf16-mixed instead"
        raise OptionError("trainer.precision", "16-mixed", rule, "auto")
    options["precision"] = devices.precision(options["precision"], device)
    if options.get("sync_batchnorm") and device == "cpu":
        rule = "batch norm can be synchronised on GPUs only"
        raise OptionError("trainer.sync_batchnorm", True, rule, False)
    if options.get("strategy") == "ddp":
        options["strategy"] = _ddp()
    if "LOCAL_WORLD_SIZE" in os.environ and ranks.launched_from_outside():
        options["devices"] = int(os.environ["LOCAL_WORLD_SIZE"])  # torchrun's word counts
        options["num_nodes"] = int(os.environ["WORLD_SIZE"]) // options["devices"]
    return options, device


def _cuda_graphs(options: dict[str, Any], device: str) -> bool:
    """Take cuda_graphs out of the options; what it comes to: auto is on one GPU where it can be."""
    chosen = options.pop("cuda_graphs", "auto")
    choice(
        "trainer.cuda_graphs", chosen if isinstance(chosen, (str, bool)) else str(chosen), CUDA_GRAPHS
    )
    unfit = {"sync_batchnorm": (False, None), "accumulate_grad_batches": (1, None)}
    unmet = [name for name, fit in unfit.items() if options.get(name) not in fit]
    if chosen is True and (device != "cuda" or unmet):
        cause = f"trainer.{unmet[0]}={shown(options[unmet[0]])}" if unmet else f"the device {device}"
        raise OptionError("trainer.cuda_graphs", True, f"cannot be had with {cause}", "auto")
    if chosen == "auto":
        alone = options.get("devices") == 1 and options.get("num_nodes", 1) == 1
        return alone and device == "cuda" and not unmet
    return bool(chosen)


def _ddp() -> DDPStrategy:
    """DDP, but batch-norm statistics are shared before evaluations (by ImageClassifier) only."""
    names = inspect.signature(nn.parallel.DistributedDataParallel).parameters
    buffers = "forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers"
    options: dict[str, Any] = {"gradient_as_bucket_view": True, buffers: False}
    return DDPStrategy(**options)


def _trainer(
    config: dict[str, Any], options: dict[str, Any], folder: Path, callbacks: list[L.Callback]
) -> L.Trainer:
    logger = config["logger"]
    has_logger = "_target_" in logger
    # Unless someone else started the processes, Lightning does, even in a SLURM shell.
    environments = {"torchrun": TorchElasticEnvironment, "srun": SLURMEnvironment}
    try:
        environment = environments.get(ranks.launcher() or "", LightningEnvironment)()
        return L.Trainer(
            **{"num_sanity_val_steps": 0, **options},
            max_epochs=config["epochs"],
            callbacks=callbacks,
            logger=build("logger", logger, save_dir=str(folder)) if has_logger else False,
            default_root_dir=str(folder),
            plugins=[WholeFileCheckpointIO(), environment],
            gradient_clip_val=config["recipe"]["gradient_clip"],
            use_distributed_sampler=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
    except (ValueError, TypeError, RuntimeError, ImportError, MisconfigurationException) as error:
        reason = first_line(error)
        named = [name for name in config["trainer"] if f"`{name}`" in reason or f" {name}" in reason]
        named = named or ["accelerator", "devices", "strategy"]
        words = " ".join(f"trainer.{name}={shown(config['trainer'][name])}" for name in named)
        raise UserError(f"{words}: {reason}") from error


def _check_batch_size(batch_size: int, processes: int) -> None:
    if batch_size % processes:
        rule = f"is shared by {processes} devices and must be a multiple of {processes}"
        example = processes * max(1, round(batch_size / processes))
        raise OptionError("data.batch_size", batch_size, rule, example)


def _check_last_batch(data: ImageData, network: nn.Module, trainer: L.Trainer, is_synced: bool) -> None:
    """Refuse a last batch of one image, hours before it comes, if the network cannot learn from it.

    Batch norm has no variance of a single value a channel, as of one image's maps of one pixel.
    """
    order = functools.partial(EpochOrder, data.sizes["train"], seed=0, world_size=trainer.world_size)
    own = order(batch_size=data.batch_size)
    if own.last > 1 or (is_synced and trainer.world_size > 1) or not _is_reached(own, trainer):
        return
    height, width = data.image_size
    try:
        with torch.no_grad():
            cost.without_memory(network)(torch.empty(1, 3, height, width, device="meta"))
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        sizes = range(data.batch_size, data.sizes["train"] + 1, trainer.world_size)
        example = next((size for size in sizes if order(batch_size=size).last > 1), None)
        rule = (
            f"leaves a single image for the last batch of the {data.sizes['train']} training images, "
            "of which this network's normalisation cannot learn"
        )
        raise OptionError("data.batch_size", data.batch_size, rule, example) from error
    except (RuntimeError, NotImplementedError) as error:
        log.info("it cannot be foreseen whether the network learns from a single image: %s", error)


def _is_reached(order: EpochOrder, trainer: L.Trainer) -> bool:
    """Whether training comes to a batch that is as small as an epoch's last one."""
    batches, limit = len(order), trainer.limit_train_batches
    most = limit if isinstance(limit, int) else int(batches * limit)
    if trainer.max_steps >= 0:
        most = min(most, trainer.max_steps * trainer.accumulate_grad_batches)
    return most >= batches or order.last * order.world_size == order.batch_size
