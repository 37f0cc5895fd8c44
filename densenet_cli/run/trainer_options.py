"""The section `trainer` of the configuration, checked: arguments of Lightning's Trainer."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as L
from lightning.pytorch.accelerators import AcceleratorRegistry

from densenet_cli import kernels
from densenet_cli.config.build import refuse_name
from densenet_cli.options import OptionError, choice, shown, switch
from densenet_cli.process import ranks
from densenet_cli.training import devices
from densenet_cli.training.flat_ddp import FlatDDP

# Arguments of Lightning's Trainer that have another place in our configuration.
TAKEN = {
    "max_epochs": "is set by epochs=",
    "logger": "is set by logger=",
    "default_root_dir": "is set by hydra.run.dir=",
    "gradient_clip_val": "is set by recipe.gradient_clip=",
    "callbacks": "cannot be typed",
    "plugins": "cannot be typed; trainer.precision= sets the number format",
    "enable_checkpointing": "cannot be changed: every run keeps last.ckpt and best.ckpt",
    "overfit_batches": "cannot be used with our order of the data; limit_train_batches= can",
    "enable_model_summary": "cannot be changed; densenet-model summary shows the layers",
    "use_distributed_sampler": "cannot be changed: each process gets its own share of the data",
}
ALL = (-1, "-1")  # of the devices
SHARING = ("auto", "ddp")  # strategies in which each device computes its share of a batch
CUDA_GRAPHS = ("auto", True, False)
UNFUSED = {"precision": "16-mixed", "sync_batchnorm": True}  # what the kernels cannot do


@dataclass(frozen=True)
class TrainerOptions:
    """What the user chose.

    Attributes:
        arguments: of Lightning's Trainer.
        device: cpu, cuda, mps, or another that Lightning knows.
        cuda_graphs: whether training steps are recorded as CUDA graphs, if the network allows it.
        needs_cuda_graphs: whether the user asked for them, by true.
        implementation: what computes a DenseNet: auto, fused or reference; see `kernels.attach`.
        progress_bars: whether progress bars are drawn on a terminal.
    """

    arguments: dict[str, Any]
    device: str
    cuda_graphs: bool
    needs_cuda_graphs: bool
    implementation: str
    progress_bars: bool


def read(section: dict[str, Any]) -> TrainerOptions:
    """Check the section `trainer`. Raises OptionError."""
    arguments = dict(section)
    _check_names(arguments)
    for name in ("limit_train_batches", "limit_val_batches", "limit_test_batches"):
        _check_limit(name, arguments.get(name))
    _check_interval(arguments)
    if ranks.launched_from_outside():
        arguments["devices"], arguments["num_nodes"] = ranks.launched_processes()
    device = _device(arguments["accelerator"], arguments["devices"])
    arguments["precision"] = _precision(arguments["precision"], device)
    if arguments.get("sync_batchnorm") and device == "cpu":
        rule = "batch norm can be synchronised on GPUs only"
        raise OptionError("trainer.sync_batchnorm", True, rule, False)
    typed = arguments.pop("cuda_graphs", "auto")
    cuda_graphs = _cuda_graphs(typed, arguments, device)
    implementation = _implementation(arguments.pop("implementation", "auto"), arguments)
    bars = switch("trainer.enable_progress_bar", arguments.pop("enable_progress_bar", True))
    strategy = arguments.get("strategy", "auto")
    if strategy == "ddp" or (
        strategy == "auto" and device in ("cpu", "cuda") and not _is_alone(arguments)
    ):
        arguments["strategy"] = FlatDDP()
    return TrainerOptions(arguments, device, cuda_graphs, typed is True, implementation, bars)


def _check_names(arguments: dict[str, Any]) -> None:
    known = [name for name in inspect.signature(L.Trainer).parameters if name not in TAKEN]
    known += ["cuda_graphs", "implementation"]
    for name, value in arguments.items():
        if name in TAKEN:
            raise OptionError(f"trainer.{name}", value, TAKEN[name])
        if name not in known:
            refuse_name("trainer", name, value, known)


def _check_limit(name: str, limit: Any) -> None:
    if limit is None:
        return
    is_number = isinstance(limit, (int, float)) and not isinstance(limit, bool)
    if not is_number or limit < 0 or (isinstance(limit, float) and not limit <= 1):
        rule = "must be a number of batches, or a share of them from 0.0 to 1.0"
        raise OptionError(f"trainer.{name}", limit, rule, 10)


def _check_interval(arguments: dict[str, Any]) -> None:
    """Check how often the network is evaluated: within an epoch a run is saved between evaluations."""
    interval, steps = arguments.get("val_check_interval"), arguments.get("accumulate_grad_batches") or 1
    is_number = isinstance(interval, (int, float)) and not isinstance(interval, bool)
    if interval is not None and not (is_number and interval > 0):
        rule = "must be a number of training batches, or a share of an epoch's up to 1.0"
        raise OptionError("trainer.val_check_interval", interval, rule, 200)
    if isinstance(interval, int) and isinstance(steps, int) and steps % interval == 0:
        rule = "must be more batches than a step has: a run is saved only between two evaluations"
        raise OptionError("trainer.val_check_interval", interval, rule, 2 * steps)


def _device(accelerator: Any, number: Any) -> str:
    choice("trainer.accelerator", accelerator, sorted({"auto", "gpu", *AcceleratorRegistry}))
    device = devices.accelerator(accelerator)
    if not devices.is_available(device):
        rule = "torch finds no such device here"
        several = " trainer.devices=2" if number in ALL else ""
        raise OptionError("trainer.accelerator", accelerator, rule, f"cpu{several}")
    if device == "cpu" and number in ALL:
        rule = "a CPU needs the number of processes, unless torchrun or srun starts them"
        raise OptionError("trainer.devices", number, rule, 2)
    return device


def _precision(precision: Any, device: str) -> str:
    choice("trainer.precision", precision, devices.PRECISIONS)
    if precision == "16-mixed" and device == "cpu":
        rule = "is for GPUs; CPUs compute in bf16-mixed instead"
        raise OptionError("trainer.precision", "16-mixed", rule, "auto")
    return devices.precision(precision, device)


def _cuda_graphs(chosen: Any, arguments: dict[str, Any], device: str) -> bool:
    """Whether CUDA graphs are used. auto: on one or several GPUs, if no other option excludes them."""
    choice(
        "trainer.cuda_graphs", chosen if isinstance(chosen, (str, bool)) else str(chosen), CUDA_GRAPHS
    )
    cause = _against_cuda_graphs(arguments, device)
    if chosen == "auto":
        return cause is None and arguments.get("strategy", "auto") in SHARING
    if chosen and cause is not None:
        raise OptionError("trainer.cuda_graphs", True, f"cannot be combined with {cause}", "auto")
    return bool(chosen)


def _is_alone(arguments: dict[str, Any]) -> bool:
    """Whether one device is used: devices is a number of them, or a list of their indices."""
    devices = arguments.get("devices")
    count = len(devices) if isinstance(devices, list) else devices
    return count in (1, "1") and arguments.get("num_nodes", 1) in (1, "1")


def _against_cuda_graphs(arguments: dict[str, Any], device: str) -> str | None:
    """The first option that excludes CUDA graphs, as typed; None if there is none."""
    if device != "cuda":
        return f"the device {device}"
    for name, default in (("sync_batchnorm", False), ("accumulate_grad_batches", 1)):
        if arguments.get(name) not in (default, None):
            return f"trainer.{name}={shown(arguments[name])}"
    return None


def _implementation(chosen: Any, arguments: dict[str, Any]) -> str:
    """What computes a DenseNet. auto: the modules, if another option excludes the kernels."""
    choice("trainer.implementation", chosen, kernels.IMPLEMENTATIONS)
    unfit = [name for name, value in UNFUSED.items() if arguments.get(name) == value]
    if unfit and chosen == "fused":
        rule = f"cannot be combined with trainer.{unfit[0]}={shown(arguments[unfit[0]])}"
        raise OptionError("trainer.implementation", "fused", rule, "auto")
    return "reference" if unfit else chosen
