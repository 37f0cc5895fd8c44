"""What a job will cost, before it is run: a few measured steps, times how many a whole run takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from densenet_cli.identity import flat
from densenet_cli.sweep.measured_steps import Measurement, Measurements, short_run


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

    Jobs that differ only in seeds, schedule or numbers of epochs and steps share a short run.

    Args:
        configs: resolved configurations.
        on_progress: called with a line of text before each short run.
    """
    measurements = Measurements()
    short_runs = [short_run(config) for config in configs]
    missing = [short for short in short_runs if measurements.get(short) is None]
    missing = [short for index, short in enumerate(missing) if short not in missing[:index]]
    for number, short in enumerate(missing, start=1):
        on_progress(f"measuring {number} of {len(missing)}: {_name(short)}")
        measurements.measure(short)
    return [
        _estimate(config, measurements[short])
        for config, short in zip(configs, short_runs, strict=True)
    ]


def _estimate(config: dict[str, Any], measured: Measurement) -> Estimate:
    seconds = seconds_per_epoch = None
    if measured.error is None:
        seconds_per_epoch = _epoch_seconds(config, measured)
        seconds = _run_seconds(config, measured)
    return Estimate(
        measured.parameters,
        measured.multiply_adds,
        measured.peak_memory_bytes,
        seconds,
        seconds_per_epoch,
        measured.device,
        measured.error,
    )


def _epoch_seconds(config: dict[str, Any], measured: Measurement) -> float:
    every = config["trainer"].get("check_val_every_n_epoch") or 1
    return (
        _train_images(config, measured) / measured.images_per_second
        + _evaluation_images(config, measured, measured.evaluation_split) / every
        / measured.evaluation_images_per_second
        + measured.epoch_end_seconds
    )  # fmt: skip


def _run_seconds(config: dict[str, Any], measured: Measurement) -> float:
    test_images = _evaluation_images(config, measured, "test")
    test_seconds = test_images / measured.evaluation_images_per_second
    if config["task"] == "test":
        return measured.start_seconds + test_seconds
    # With held-out images the last epoch's network is tested, and the best epoch's.
    tests = 1 if measured.evaluation_split == "test" else 2
    epochs = _epochs(config, measured)
    return (
        measured.start_seconds
        + epochs * _epoch_seconds(config, measured)
        + tests * test_seconds
    )  # fmt: skip


def _epochs(config: dict[str, Any], measured: Measurement) -> float:
    """Epochs of the run, the last one maybe broken off by trainer.max_steps."""
    most = config["trainer"].get("max_steps", -1)
    if most < 0:
        return config["epochs"]
    step_images = config["data"]["batch_size"] * config["trainer"].get("accumulate_grad_batches", 1)
    return min(config["epochs"], most * step_images / _train_images(config, measured))


def _train_images(config: dict[str, Any], measured: Measurement) -> float:
    return _limited(config, measured.sizes["train"], "limit_train_batches")


def _evaluation_images(config: dict[str, Any], measured: Measurement, split: str) -> float:
    limit = "limit_val_batches" if split == measured.evaluation_split else "limit_test_batches"
    return _limited(config, measured.sizes[split], limit)


def _limited(config: dict[str, Any], images: int, limit: str) -> float:
    """The images left by a limit: a number of batches, or a share of all (Lightning's Trainer)."""
    most = config["trainer"].get(limit)
    if most is None:
        return images
    if isinstance(most, int):
        return min(images, most * config["data"]["batch_size"])
    return most * images


def _name(config: dict[str, Any]) -> str:
    """The network, with its options, and the data."""
    model = dict(config["model"])
    network = model.pop("_target_").rpartition(".")[2]
    options = " ".join(f"{name}={value}" for name, value in flat(model).items() if value is not None)
    return f"{network} {options}, {config['data']['_target_'].rpartition('.')[2]}"
