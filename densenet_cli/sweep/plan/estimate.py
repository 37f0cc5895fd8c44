"""What a run will cost: the measured time of a step, times the number of steps of the whole run."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from densenet_cli.config.build import build, naming
from densenet_cli.options import OptionError, UserError, number, shown, whole_number
from densenet_cli.process.load_torch import load_lightning
from densenet_cli.record import run_length
from densenet_cli.record.identity import flat
from densenet_cli.record.trained_on import COMMON
from densenet_cli.run import budget
from densenet_cli.sweep.plan.measurement import Measurement
from densenet_cli.sweep.plan.measurements import Measurements, benchmark_config


@dataclass(frozen=True)
class Estimate:
    """The cost of one whole run on this machine.

    Attributes:
        parameters: of the network; None if it cannot be built.
        multiply_adds: for one image; None if the network cannot process the images.
        peak_memory_bytes: of the GPU if the run uses one, else of the process; None if not measured.
        seconds: of all epochs, each with its evaluation, and of the test at the end; None if not
            measured.
        seconds_per_epoch: of one epoch with its evaluation.
        epochs: of the whole run; None if not known.
        device: the device that was measured, with the number format; "" if not known.
        error: why the run cannot be measured: the message that a user who ran it would see.
        unpacked: whether files of images were read because they are not packed yet (data.pack).
    """

    parameters: int | None
    multiply_adds: int | None
    peak_memory_bytes: int | None
    seconds: float | None
    seconds_per_epoch: float | None
    epochs: float | None
    device: str
    error: str | None
    unpacked: bool = False


def estimate(configs: Sequence[dict[str, Any]], on_progress: Callable[[str], object]) -> list[Estimate]:
    """The cost of each run, from benchmark runs on this machine whose results are cached.

    Runs that differ only in seeds, schedule or numbers of epochs and steps share a benchmark. Of a run
    of several processes one is measured, with its share of a batch. The communication between processes
    and a limit of time (trainer.max_time) are not considered. Images are not packed for a benchmark.

    Args:
        configs: resolved configurations.
        on_progress: called with a line of text before each benchmark.
    """
    names = []
    benchmarks = {}
    unpacked: dict[str, bool] = {}
    for config in configs:
        benchmark = benchmark_config(config)
        if _waits_for_pack(config["data"], unpacked):
            benchmark["data"]["pack"] = False
        names.append(json.dumps(benchmark, sort_keys=True))
        benchmarks[names[-1]] = benchmark
    measurements = Measurements()
    known = {name: measurements.get(one) for name, one in benchmarks.items()}
    results = {name: result for name, result in known.items() if result is not None}
    missing = [name for name in benchmarks if name not in results]
    for place, name in enumerate(missing, start=1):
        on_progress(f"measuring {place} of {len(missing)}: {_name(benchmarks[name])}")
        results[name] = measurements.measure(benchmarks[name])
    return [
        replace(_estimate(config, results[name]), unpacked=_waits_for_pack(config["data"], unpacked))
        for config, name in zip(configs, names, strict=True)
    ]


def _waits_for_pack(data: dict[str, Any], known: dict[str, bool]) -> bool:
    """Whether images must be packed first; `known` are the answers so far."""
    if not data.get("pack"):
        return False
    decides = {name: data[name] for name in data if name not in COMMON or name.startswith("pack")}
    key = json.dumps(decides, sort_keys=True)
    if key not in known:
        load_lightning()
        try:
            with naming("data"):
                known[key] = build("data", data).waits_for_pack()
        except UserError:  # the benchmark reports it
            known[key] = False
    return known[key]


def _estimate(config: dict[str, Any], measured: Measurement) -> Estimate:
    seconds, seconds_per_epoch, epochs, error = None, None, None, measured.error
    try:
        _check_amounts(config)
        if error is None:
            epochs = _epochs(config, measured)
            seconds, seconds_per_epoch = _seconds(config, measured, epochs)
    except OptionError as wrong:
        error = str(wrong)
    return Estimate(
        measured.parameters,
        measured.multiply_adds,
        measured.peak_memory_bytes,
        seconds,
        seconds_per_epoch,
        epochs,
        measured.device,
        error,
    )


def _check_amounts(config: dict[str, Any]) -> None:
    """Check the options that the benchmark replaced by values of its own. Raises OptionError."""
    trainer = config["trainer"]
    run_length.check(config)
    budget.read(config)
    number("recipe.optimizer.lr", config["recipe"]["optimizer"]["lr"], example=0.1, above=0)
    for name, least in (("max_steps", -1), ("check_val_every_n_epoch", 1)):
        if trainer.get(name) is not None:
            whole_number(f"trainer.{name}", trainer[name], example=1, at_least=least)
    if (interval := trainer.get("val_check_interval")) is not None:
        number("trainer.val_check_interval", interval, example=200, above=0)
    for name in ("limit_train_batches", "limit_val_batches", "limit_test_batches"):
        if isinstance(trainer.get(name), float):
            number(f"trainer.{name}", trainer[name], example=0.5, at_least=0, at_most=1)
        elif trainer.get(name) is not None:
            whole_number(f"trainer.{name}", trainer[name], example=10, at_least=0)


def _seconds(config: dict[str, Any], measured: Measurement, epochs: float) -> tuple[float, float]:
    """The seconds of the whole run, and of one epoch."""

    def images(split: str, limit: str) -> float:
        return _limited(config, measured.sizes[split], limit)

    train_images = _limited(config, _epoch_images(config, measured), "limit_train_batches")
    crops = config["data"].get("test_crops", 1) * measured.sizes["test"]
    test_s = _limited(config, crops, "limit_test_batches") / measured.evaluation_images_per_second
    evaluation_images = images(measured.evaluation_split, "limit_val_batches")
    evaluations = _evaluations(config["trainer"], -(-train_images // config["data"]["batch_size"]))
    epoch_s = (
        train_images / measured.images_per_second
        + evaluations * evaluation_images / measured.evaluation_images_per_second
        + measured.epoch_end_seconds
    )
    if config["task"] == "test":
        return measured.start_seconds + test_s, epoch_s
    # With validation images, both the last and the best checkpoint are tested.
    tests = 1 if measured.evaluation_split == "test" else 2
    return measured.start_seconds + epochs * epoch_s + tests * test_s, epoch_s


def _evaluations(trainer: dict[str, Any], batches: float) -> float:
    """Evaluations per epoch, of which some may be within it (trainer.val_check_interval)."""
    every, interval = trainer.get("check_val_every_n_epoch", 1), trainer.get("val_check_interval")
    if isinstance(interval, float):
        interval = max(1, int(batches * interval))
    if every is None:  # the interval counts the batches of all epochs
        return batches / (interval or batches or 1)
    return (1 if interval is None else batches // interval) / every


def _epochs(config: dict[str, Any], measured: Measurement) -> float:
    """The number of epochs; a budget, recipe.steps or trainer.max_steps may end the run within one."""
    trainer, images = config["trainer"], _epoch_images(config, measured)
    batch_size = config["data"]["batch_size"]
    step_images = batch_size * trainer.get("accumulate_grad_batches", 1)
    chosen = budget.read(config)
    batches = budget.limited(-(-images // batch_size), trainer.get("limit_train_batches"))
    epoch = budget.Epoch(min(images, batches * batch_size), step_images)
    if chosen is not None:
        step_s = step_images / measured.images_per_second
        forward = (measured.multiply_adds or 0) - measured.left_out_multiply_adds
        return budget.length(config, chosen, epoch, forward, step_s).epochs
    train_images = _limited(config, images, "limit_train_batches")
    if not train_images:
        return config["epochs"] or 0
    own, most = run_length.chosen_steps(config), trainer.get("max_steps")
    epochs = config["epochs"] if own is None else own / epoch.steps
    return epochs if most in (None, -1) else min(epochs, most * step_images / train_images)


def _epoch_images(config: dict[str, Any], measured: Measurement) -> int:
    """The images of an epoch; data.drop_last leaves out those of an incomplete last batch."""
    images = measured.sizes["train"]
    return images - images % config["data"]["batch_size"] if config["data"].get("drop_last") else images


def _limited(config: dict[str, Any], images: int, limit: str) -> float:
    """The images that a limit of the Trainer allows: a number of batches, or a fraction of all."""
    most = config["trainer"].get(limit)
    if most is None:
        return images
    if isinstance(most, int):
        return min(images, most * config["data"]["batch_size"])
    return most * images


def _name(config: dict[str, Any]) -> str:
    """The network with its options, and the data set."""
    model, data = dict(config["model"]), config["data"]
    network = str(model.pop("_target_")).rpartition(".")[2]
    options = [f"{name}={shown(value)}" for name, value in flat(model).items() if value is not None]
    return f"{' '.join([network, *options])}, {str(data['_target_']).rpartition('.')[2]}"
