"""Each part of a run, built from its section of the configuration."""

from __future__ import annotations

import functools
import logging
from pathlib import Path
from typing import Any

import lightning.pytorch as L
from lightning.pytorch.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from densenet_cli import kernels
from densenet_cli.config.build import build, build_model, naming
from densenet_cli.data.image_data import ImageData
from densenet_cli.data.in_memory import InMemoryData
from densenet_cli.models import pretrained
from densenet_cli.options import OptionError, UserError
from densenet_cli.plain_text import first_line
from densenet_cli.process import ranks
from densenet_cli.run import recipe, testing
from densenet_cli.run.option_checks import check_batch_size, check_report
from densenet_cli.run.slurm import SrunEnvironment
from densenet_cli.run.trainer_options import TrainerOptions
from densenet_cli.training import fine_tuning, host_choices
from densenet_cli.training.checkpoints import WholeFileCheckpointIO, load_weights
from densenet_cli.training.classifier import ImageClassifier
from densenet_cli.training.cuda_graphs import CudaGraphs
from densenet_cli.training.finite_loss import FiniteLoss
from densenet_cli.training.interruption import stop_asking_for_sigterm
from densenet_cli.training.recorded_step import RecordedStep

log = logging.getLogger(__name__)


def build_data(config: dict[str, Any], tested: dict[str, Any] | None) -> ImageData:
    """The data, read and split.

    Args:
        config: the resolved configuration.
        tested: the checkpoint that is tested, if any; its normalisation is used.
    """
    data = build("data", config["data"])
    with naming("data"):
        data.prepare()
    check_report(config, data)
    if tested is not None:
        testing.prepare_data(config, data, tested)
    return data


def build_network(config: dict[str, Any], data: ImageData, tested: dict[str, Any] | None) -> nn.Module:
    """The network, with the weights of a checkpoint that is tested or that training begins with."""
    network = build_model(config["model"], data.num_classes, data.channels)
    weights = config["pretrained"]["weights"]
    if tested is not None:
        load_weights(network, tested, Path(config["checkpoint"]))
    elif weights is not None:
        name = _name_elsewhere(config, network)
        kept = pretrained.load_pretrained(network, str(weights), name, data.class_names)
        what = f"all but {', '.join(kept)}, for other classes" if kept else "all of them"
        log.warning("training begins with the weights of %s: %s", weights, what)
    return network


def _name_elsewhere(config: dict[str, Any], network: nn.Module) -> str | None:
    """The network's name in torchvision and timm."""
    name = config["model"].get("name")
    is_dense = name is None and config["model"].get("stem") == "imagenet"
    return f"densenet{getattr(network, 'depth', '')}" if is_dense else name


def build_classifier(config: dict[str, Any], network: nn.Module, data: ImageData) -> ImageClassifier:
    """The network with its loss, optimizer, learning-rate schedule and metrics."""
    options, start = config["recipe"], config["pretrained"]
    target = options["optimizer"]["_target_"]
    # The gradient scaler of 16-mixed cannot clip gradients of a fused optimizer.
    fused = options["gradient_clip"] is None or config["trainer"]["precision"] != "16-mixed"
    make_optimizer = functools.partial(
        recipe.optimizer, options["optimizer"], fused, start["layer_decay"]
    )
    tried = recipe.try_out(make_optimizer, target)
    make_schedule = recipe.schedule(options["schedule"])
    warm_up = recipe.warm_up(options.get("warm_up"), options["optimizer"]["lr"])
    reset_momentum = recipe.reset_momentum_at_drops(options, tried)
    frozen = (
        fine_tuning.frozen_around(network, pretrained.classifier(network)[1]) if start["frozen"] else ()
    )
    with naming("recipe"):
        classifier = ImageClassifier(
            network.to(memory_format=recipe.memory_format(target)),
            make_optimizer,
            make_schedule,
            data.class_names,
            data.evaluation_split,
            seed=config["seed"],
            criterion=recipe.loss(options, data),
            frozen=frozen,
            warm_up=warm_up,
            reset_momentum_at_drops=reset_momentum,
            mixing=recipe.mixing(options, data.num_classes),
        )
    classifier.skips_images = data.skip_broken
    return classifier


def accelerate(classifier: ImageClassifier, data: ImageData, options: TrainerOptions) -> None:
    """Attach what makes training faster and computes the same: kernels and CUDA graphs."""
    with naming("trainer"):
        kernels.attach(classifier.network, options.implementation, options.device)
    if options.cuda_graphs and _can_be_recorded(classifier.network, options.needs_cuda_graphs):
        classifier.graphs = CudaGraphs(classifier.network)
        # The gradient scaler of 16-mixed decides after each backward pass whether to optimize.
        if isinstance(data, InMemoryData) and options.arguments["precision"] != "16-mixed":
            record_steps(classifier, data, classifier.graphs)


def _can_be_recorded(network: nn.Module, is_needed: bool) -> bool:
    """Whether the steps of a network can be CUDA graphs. Raises OptionError if it must be."""
    if not host_choices.generators(network):
        return True
    rule = (
        "cannot be combined with a network that chooses at each step what it computes, as with "
        "stochastic depth: a CUDA graph repeats what was recorded"
    )
    if is_needed:
        raise OptionError("trainer.cuda_graphs", True, rule, "auto")
    log.info("training without CUDA graphs: trainer.cuda_graphs=true %s", rule)
    return False


def record_steps(classifier: ImageClassifier, data: ImageData, graphs: CudaGraphs) -> None:
    """Record whole training steps, augmentation included."""

    def complete(batch: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        return data.complete(batch)  # a function: a copy of the classifier must not copy the data

    data.leaves_training_batches, classifier.complete = True, complete
    classifier.recorded_step = RecordedStep(graphs, classifier.loss, classifier.train_metrics)


def build_trainer(
    config: dict[str, Any], options: TrainerOptions, folder: Path, callbacks: list[L.Callback]
) -> L.Trainer:
    """Lightning's Trainer, with the recipe's callbacks before the given ones."""
    logger, average = config["logger"], recipe.weight_average(config["recipe"])
    has_logger = "_target_" in logger
    # Unless torchrun or srun started the processes, Lightning does, even in a SLURM shell.
    arguments = {name: value for name, value in options.arguments.items() if name != "max_steps"}
    environments = {"torchrun": TorchElasticEnvironment, "srun": SrunEnvironment}
    try:
        environment = environments.get(ranks.launcher() or "", LightningEnvironment)()
        trainer = L.Trainer(
            **{"num_sanity_val_steps": 0, **arguments},
            max_epochs=config["epochs"] or 1,  # null with recipe.steps; see `length.keep_to_length`
            callbacks=[*average, FiniteLoss(), *callbacks],
            logger=build("logger", logger, save_dir=str(folder)) if has_logger else False,
            default_root_dir=str(folder),
            plugins=[WholeFileCheckpointIO(), environment],
            gradient_clip_val=config["recipe"]["gradient_clip"],
            use_distributed_sampler=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
    except (ValueError, TypeError, RuntimeError, ImportError, MisconfigurationException) as error:
        raise UserError(f"trainer: Lightning refuses its options: {first_line(error)}") from error
    stop_asking_for_sigterm(trainer)
    check_batch_size(config["data"]["batch_size"], trainer.world_size)
    return trainer
