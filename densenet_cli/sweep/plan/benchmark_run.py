"""A process that times a few real training steps of a run.

It reads the configuration FOLDER/config.json and writes a `Measurement` to FOLDER/measurement.json.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from densenet_cli.files.atomic_file import replace_file
from densenet_cli.models import cost
from densenet_cli.options import UserError
from densenet_cli.process import ranks
from densenet_cli.process.streams import drop_what_cannot_be_written
from densenet_cli.record.environment import peak_memory_bytes
from densenet_cli.run import assemble, length, trainer_options
from densenet_cli.run.parts import Run
from densenet_cli.run.train import train
from densenet_cli.sweep.plan.measurement import Measurement
from densenet_cli.training import allocator, devices
from densenet_cli.training.graph_recording import WARM_UP
from densenet_cli.training.interruption import Interruption

# Training stops after ENOUGH_S if SETTLED steps are done, so that memory and speed have settled; after
# LONG_S in any case.
ENOUGH_S = 4.0
LONG_S = 20.0
SETTLED = 3
# The same with CUDA graphs, which are recorded after some warm-up steps and may compile kernels.
REPLAYED = WARM_UP + 3
COMPILED_S = 120.0


class Stopwatch:
    """The speed of a series of batches.

    The first third is left out if there are more than two, since it includes much preparation (memory,
    kernels, CUDA graphs).
    """

    def __init__(self) -> None:
        self._marks: list[tuple[float, int]] = []  # time in seconds, images so far

    def mark(self, images: int = 0) -> None:
        """Note that so many more images have been processed; the first call starts the clock."""
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        done = self._marks[-1][1] if self._marks else 0
        self._marks.append((time.monotonic(), done + images))

    @property
    def started(self) -> float:
        """The time of the first mark."""
        return self._marks[0][0]

    @property
    def ended(self) -> float:
        """The time of the last mark."""
        return self._marks[-1][0]

    @property
    def images_per_second(self) -> float:
        """The speed up to the last mark."""
        first = self._marks[len(self._marks) // 3]
        last = self._marks[-1]
        return (last[1] - first[1]) / (last[0] - first[0])


class StepTimer(Callback):
    """Times training and evaluation, and ends training once it has lasted long enough.

    Attributes:
        facts: what is known before training: parameters, sizes, the device.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.facts = folder, Measurement()
        self.train, self.evaluation = Stopwatch(), Stopwatch()
        self.epoch_end_seconds, self.peak_memory_bytes = 0.0, 0

    def on_ready(self, run: Run) -> None:
        """Write what is known before training, in case the steps kill this process."""
        network = run.classifier.network
        forward = length.forward_multiply_adds(network, run.data)
        self.facts = Measurement(
            parameters=cost.count_parameters(network),
            multiply_adds=forward,
            left_out_multiply_adds=forward - length.trained_multiply_adds(network, run.data, forward),
            device=f"{devices.device_name(run.device)}, {run.trainer.precision}",
            sizes=run.data.sizes,
            evaluation_split=run.data.evaluation_split,
        )
        _write(self.folder, self.facts)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the evaluation be long enough for CUDA graphs to be recorded and replayed."""
        if getattr(pl_module, "graphs", None) is not None:
            trainer.limit_val_batches = REPLAYED

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self.train.mark()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Time a step."""
        self.train.mark(len(batch[1]))
        lasted = self.train.ended - self.train.started
        replays = getattr(pl_module, "graphs", None) is not None
        settled, long = (REPLAYED, COMPILED_S) if replays else (SETTLED, LONG_S)
        trainer.should_stop = lasted > (ENOUGH_S if batch_idx + 1 >= settled else long)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the evaluation's clock."""
        self.evaluation.mark()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Time a batch."""
        self.evaluation.mark(len(batch[1]))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Time what follows the steps of an epoch: writing its checkpoint."""
        self.epoch_end_seconds = time.monotonic() - self.evaluation.ended
        is_cuda = torch.cuda.is_initialized()
        self.peak_memory_bytes = torch.cuda.max_memory_allocated() if is_cuda else peak_memory_bytes()


def main(arguments: list[str]) -> None:
    """Run the benchmark in the folder that the only argument names.

    If it fails, the measurement contains the message that a user would see.
    """
    drop_what_cannot_be_written()
    folder = Path(arguments[0])
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    with contextlib.suppress(OSError):  # this is not Linux
        # If memory runs out, Linux shall kill this process before any other.
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="utf-8")
    timer = StepTimer(folder)
    try:
        measured = _measure(config, folder, timer)
    except Exception as error:
        message = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        measured = replace(timer.facts, error=message)
    _write(folder, measured)


def _measure(config: dict[str, Any], folder: Path, timer: StepTimer) -> Measurement:
    """Train as a run does, with the timer attached."""
    processes, config = _one_process(config)
    allocator.keep_freed_memory()
    assemble.build_data(config, None)  # what is done once for all runs: downloads, checks, statistics
    began = time.monotonic()
    train(
        config,
        folder,
        Interruption(),
        on_ready=timer.on_ready,
        on_epoch=lambda progress: None,
        callbacks=[timer],
    )
    at_once = processes if torch.cuda.is_initialized() else 1  # processes on one CPU share its cores
    return replace(
        timer.facts,
        images_per_second=at_once * timer.train.images_per_second,
        evaluation_images_per_second=at_once * timer.evaluation.images_per_second,
        start_seconds=timer.train.started - began,
        epoch_end_seconds=timer.epoch_end_seconds,
        peak_memory_bytes=timer.peak_memory_bytes,
    )


def _one_process(config: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """The number of processes of the run; and the configuration for one, with its share of a batch."""
    if not ranks.needs_worker(config["trainer"]):
        return 1, config
    options = trainer_options.read(config["trainer"])
    processes = assemble.build_trainer(config, options, Path(), []).world_size
    trainer = {"devices": 1, "num_nodes": 1, "strategy": "auto", "sync_batchnorm": False}
    if not options.cuda_graphs:  # one process might have them
        trainer["cuda_graphs"] = False
    batch_size = config["data"]["batch_size"] // processes
    return processes, {
        **config,
        "trainer": {**config["trainer"], **trainer},
        "data": {**config["data"], "batch_size": batch_size},
    }


def _write(folder: Path, measured: Measurement) -> None:
    replace_file(folder / "measurement.json", json.dumps(asdict(measured)))
