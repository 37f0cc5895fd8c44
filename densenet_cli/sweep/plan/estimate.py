"""What a job will cost, before it is run: a few measured steps, times how many a whole run takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from densenet_cli.options import OptionError, number, shown, whole_number
from densenet_cli.record.identity import flat
from densenet_cli.sweep.plan.measurements import Measurement, Measurements, short_run


@dataclass(frozen=True)
class Estimate:
    """The cost of one whole run on this machine.

    Attributes:
        parameters: of the network; None if it cannot be built.
        multiply_adds: of one image; None if the network cannot take the images.
        peak_memory_bytes: the GPU's in a run on one, else the process's; None if not measured.
        seconds: all epochs, each with its evaluation, and the test at the end; None if not measured.
        seconds_per_epoch: one epoch with its evaluation.
        device: what was measured on, with the number format; "" if not known.
        error: why the job cannot be measured: what a user who ran it would be told.
    """

    parameters: int | None
    multiply_adds: int | None
    peak_memory_bytes: int | None
    seconds: float | None
    seconds_per_epoch: float | None
    device: str
    error: str | None


def estimate(configs: Sequence[dict[str, Any]], on_progress: Callable[[str], object]) -> list[Estimate]:
    """The cost of each job, by short runs on this machine; what was measured before is remembered.

    Jobs that differ only in seeds, schedule or numbers of epochs and steps share a short run. A job of
    several processes is measured as one of them, with its share of a batch. Not considered: what the
    processes tell each other, and a limit in time (trainer.max_time).

    Args:
        configs: resolved configurations.
        on_progress: called with a line of text before each short run.

    Raises:
        UserError: if the measurements cannot be written down.
    """
    short_runs = [short_run(config) for config in configs]
    distinct = [short for index, short in enumerate(short_runs) if short not in short_runs[:index]]
    measurements = Measurements()
    missing = [short for short in distinct if measurements.get(short) is None]
    found = []
    for short in distinct:
        measured = measurements.get(short)
        if measured is None:
            on_progress(f"measuring {missing.index(short) + 1} of {len(missing)}: {_name(short)}")
            measured = measurements.measure(short)
        found.append(measured)
    return [
        _estimate(config, found[distinct.index(short)])
        for config, short in zip(configs, short_runs, strict=True)
    ]


def _estimate(config: dict[str, Any], measured: Measurement) -> Estimate:
    seconds, seconds_per_epoch, error = None, None, measured.error
    try:
        _check_amounts(config)
        if error is None:
            seconds, seconds_per_epoch = _seconds(config, measured)
    except OptionError as wrong:
        error = str(wrong)
    return Estimate(
        measured.parameters,
        measured.multiply_adds,
        measured.peak_memory_bytes,
        seconds,
        seconds_per_epoch,
        measured.device,
        error,
    )


def _check_amounts(config: dict[str, Any]) -> None:
    """Check what the short run replaced by numbers of its own. Raises OptionError."""
    trainer = config["trainer"]
    whole_number("epochs", config["epochs"], example=300)
    number("recipe.optimizer.lr", config["recipe"]["optimizer"]["lr"], example=0.1, above=0)
    for name, least in (("max_steps", -1), ("check_val_every_n_epoch", 1)):
        if trainer.get(name) is not None:
            whole_number(f"trainer.{name}", trainer[name], example=1, at_least=least)
    for name in ("limit_train_batches", "limit_val_batches", "limit_test_batches"):
        if isinstance(trainer.get(name), float):
            number(f"trainer.{name}", trainer[name], example=0.5, at_least=0, at_most=1)
        elif trainer.get(name) is not None:
            whole_number(f"trainer.{name}", trainer[name], example=10, at_least=0)


def _seconds(config: dict[str, Any], measured: Measurement) -> tuple[float, float]:
    """Seconds of the whole run and of one epoch."""

    def images(split: str, limit: str) -> float:
        return _limited(config, measured.sizes[split], limit)

    train_images = images("train", "limit_train_batches")
    test_s = images("test", "limit_test_batches") / measured.evaluation_images_per_second
    evaluation_images = images(measured.evaluation_split, "limit_val_batches")
    every = config["trainer"].get("check_val_every_n_epoch") or 1
    epoch_s = (
        train_images / measured.images_per_second
        + evaluation_images / measured.evaluation_images_per_second / every
        + measured.epoch_end_seconds
    )
    if config["task"] == "test":
        return measured.start_seconds + test_s, epoch_s
    # With held-out images the network of the last epoch is tested, and that of the best one.
    tests = 1 if measured.evaluation_split == "test" else 2
    epochs = _epochs(config, train_images)
    return measured.start_seconds + epochs * epoch_s + tests * test_s, epoch_s


def _epochs(config: dict[str, Any], train_images: float) -> float:
    """Epochs of the run; trainer.max_steps may end it within one."""
    steps = config["trainer"].get("max_steps", -1)
    if steps < 0 or not train_images:
        return config["epochs"]
    step_images = config["data"]["batch_size"] * config["trainer"].get("accumulate_grad_batches", 1)
    return min(config["epochs"], steps * step_images / train_images)


def _limited(config: dict[str, Any], images: int, limit: str) -> float:
    """The images left by a limit: so many batches, or a share of all (arguments of the Trainer)."""
    most = config["trainer"].get(limit)
    if most is None:
        return images
    if isinstance(most, int):
        return min(images, most * config["data"]["batch_size"])
    return most * images


def _name(config: dict[str, Any]) -> str:
    """The network, with its options, and the data."""
    model, data = dict(config["model"]), config["data"]
    network = str(model.pop("_target_")).rpartition(".")[2]
    options = [f"{name}={shown(value)}" for name, value in flat(model).items() if value is not None]
    return f"{' '.join([network, *options])}, {str(data['_target_']).rpartition('.')[2]}"
