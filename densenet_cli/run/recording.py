"""What a run writes into its record, and prints, as it goes: facts, epochs, results."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import asdict
from typing import Any

import torch
from rich.console import Console

from densenet_cli import kernels
from densenet_cli.energy import counters
from densenet_cli.energy.counters import Counter, NotMeasured
from densenet_cli.energy.meter import EnergyMeter
from densenet_cli.kernels import tensor_float
from densenet_cli.models import cost
from densenet_cli.process import ranks
from densenet_cli.record import outcomes, skipped_images, trained_on
from densenet_cli.record.environment import peak_memory_bytes, reset_peak_memory
from densenet_cli.record.run_record import (
    RunRecord,
    now,
    write_config,
)
from densenet_cli.run import budget, summary
from densenet_cli.run.budget import Length
from densenet_cli.run.length import forward_multiply_adds, trained_multiply_adds
from densenet_cli.run.parts import Run
from densenet_cli.training import devices
from densenet_cli.training.progress import TrainingProgress

log = logging.getLogger(__name__)


class Recorder:
    """Writes a run's record in the first process; in others it only prepares the run.

    Args:
        record: of the run; its fields are updated.
        is_resumed: whether the run was begun before.
    """

    def __init__(self, record: RunRecord, is_resumed: bool) -> None:
        self.record, self.is_resumed = record, is_resumed
        self.length = Length.recorded(record.fields)  # as it was planned when the run began
        self.console = Console() if ranks.is_first_process() else None
        self._began = time.monotonic() - (record.fields.get("seconds") or 0)
        self._run: Run | None = None
        self._meter: EnergyMeter | None = None
        reset_peak_memory()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        """Measure no more; the record is written by whoever records how the run ended."""
        if self._meter is not None:
            self.record.fields.update(self._meter.fields())
            self._meter.close()

    def on_ready(self, run: Run) -> None:
        """Record what is known before training, and announce the run."""
        self._run = run
        facts = facts_of(run)
        if self.is_resumed:
            self._refuse_other_images(facts["data"])
            self._warn_of_other_precision(run, facts["precision"])
            self._warn_of_other_processes(facts["processes"])
        run.classifier.trained_on = facts["data"]
        if run.data.skip_broken:
            self._count_skipped(run)
        if self.console is not None:
            write_config(self.record.folder, run.config, self.record.fields["overrides"])
            if run.config["task"] == "train":
                self._meter = EnergyMeter(lambda: _energy_counters(run), self.record.fields)
                facts |= self._meter.fields()
            self.record.update(config=run.config, **facts)
            summary.announce(self.console, self.record.fields, self.record.folder)

    def on_epoch(self, progress: TrainingProgress) -> None:
        """Record an epoch."""
        self._share_skipped()
        if self.console is not None:
            self.record.write_metrics(progress.rows)
            energy = self._meter.fields() if self._meter is not None else {}
            epoch = progress.rows[-1]["epoch"]
            self.record.update(epoch=epoch, seconds=self._seconds(), **energy)
            if self._meter is not None and epoch == self.record.fields["epochs"]:
                self._meter.close()  # the tests that follow are no training

    def on_end(self, results: dict[str, Any]) -> None:
        """Record the results, and print them."""
        self._share_skipped()
        if self.console is None or self._run is None:
            return
        progress, seconds = self._run.progress, self._run.progress.train_seconds
        if (right := self._run.classifier.right) is not None:
            digest = self.record.fields["data"]["digest"]
            outcomes.write(self.record.folder, outcomes.of(right.tolist(), digest))
        self.record.update(
            state="done",
            results=results,
            seconds=self._seconds(),
            train_seconds=round(seconds, 2),
            train_multiply_adds=self._train_multiply_adds(self._run),
            images_per_second=round(progress.train_images / seconds, 1) if seconds else None,
            peak_memory_bytes=_peak_memory(self._run),
            ended=now(),
        )
        summary.show(self.console, self.record.fields, self.record.folder)
        if self._run.config["task"] == "train":
            summary.next_steps(self.console, self._run.config["next_steps"])

    def _count_skipped(self, run: Run) -> None:
        """Record each image that is skipped from now on; also those skipped before a resume."""
        skipped, folder = run.data.skipped, self.record.folder
        if self.is_resumed and self.console is not None:
            skipped.found |= skipped_images.read(folder)

        def record() -> None:
            counts = {split: len(skipped.found.get(split, ())) for split in run.data.sizes}
            self.record.update(skipped_images=counts)
            if any(counts.values()):
                skipped_images.write(folder, skipped.found)

        if self.console is not None:
            record()
            skipped.on_new = record

    def _share_skipped(self) -> None:
        """Tell the first process which images the others have skipped."""
        run = self._run
        if run is not None and run.data.skip_broken and torch.distributed.is_initialized():
            found: list[Any] = [None] * run.trainer.world_size
            torch.distributed.all_gather_object(found, run.data.skipped.found)
            for one in found[1:] if self.console is not None else ():
                run.data.skipped.add_found(one)

    def _seconds(self) -> float:
        return round(time.monotonic() - self._began, 2)

    def _train_multiply_adds(self, run: Run) -> int | None:
        """Those of all training steps; None if they cannot be counted."""
        forward = trained_multiply_adds(
            run.classifier.network, run.data, self.record.fields["multiply_adds"]
        )
        each = budget.training_multiply_adds(run.config, forward)
        return None if each is None else each * run.progress.train_images

    def _refuse_other_images(self, data: dict[str, Any]) -> None:
        """Raise UserError if the images are not those that the run began with."""
        fields = self.record.fields
        if difference := trained_on.other_images(fields.get("data") or {}, data):
            rule = (
                f"holds other images than the run began with: {difference}; put them back, name the "
                "folder where they are now, or start a new run"
            )
            raise trained_on.refusal(rule, fields["config"]["data"])

    def _warn_of_other_precision(self, run: Run, precision: str) -> None:
        before = self.record.fields.get("precision", precision)
        if before != precision:
            typed = f"trainer.precision={run.config['trainer']['precision']}"
            text = "the run began in %s and resumes in %s, by %s on this device"
            log.warning(text, before, precision, typed)

    def _warn_of_other_processes(self, processes: int) -> None:
        before = self.record.fields.get("processes", processes)
        if before != processes:
            log.warning(
                "the run began with %d processes and resumes with %d: batches and learning rates stay "
                "the same; batch norm and dropout do not, since each process has its own",
                before,
                processes,
            )


def facts_of(run: Run) -> dict[str, Any]:
    """What is known of a run before it trains, under the names that run.json has for it."""
    data, network = run.data, run.classifier.network
    return {
        "parameters": cost.count_parameters(network),
        "multiply_adds": forward_multiply_adds(network, data),
        "data": {
            "name": data.name,
            "num_classes": data.num_classes,
            "class_names": list(data.class_names),
            "image_size": list(data.image_size),
            "channels": data.channels,
            "sizes": data.sizes,
            "statistics": data.statistics,
            "digest": data.digest(),
            **({"several_labels": True} if data.several_labels else {}),
            **data.facts(),
        },
        "device": devices.device_name(run.device),
        "device_type": run.device,  # cpu, cuda or mps
        "processes": run.trainer.world_size,
        "precision": run.trainer.precision,
        "tf32": tensor_float.is_used(run.device, run.trainer.precision),
        "implementation": kernels.implementation(network),
        "cuda_graphs": run.classifier.graphs is not None,
        "epochs": run.trainer.max_epochs,
        "pid": os.getpid(),
        **_class_weights(run),
        **_length(run),
    }


def _class_weights(run: Run) -> dict[str, Any]:
    """The weights of the classes in the training loss, in their order, if there are any."""
    weights = run.classifier.criterion.class_weights
    return {} if weights is None else {"class_weights": [float(f"{one:.6g}") for one in weights]}


def _length(run: Run) -> dict[str, Any]:
    """How long the run trains, unless that is a number of epochs."""
    if run.length is None:
        return {}
    name = "length" if run.config.get("budget") is None else "budget"
    return {name: asdict(run.length)}


def _energy_counters(run: Run) -> list[Counter]:
    """The counters of the devices that a run trains on: GPUs, or processor packages.

    Raises:
        NotMeasured: if they cannot be read.
    """
    if run.trainer.num_nodes > 1:
        raise NotMeasured("the run is on several machines")
    if run.device == "cuda":
        cards = [torch.cuda.get_device_properties(device) for device in run.trainer.device_ids]
        return counters.gpus([str(card.uuid) for card in cards])
    if run.device == "cpu":
        return counters.packages()
    raise NotMeasured(f"{run.device} has no counter of energy")


def _peak_memory(run: Run) -> int:
    """The most memory that the run held, in bytes: of the GPU for a run on one, else of the process."""
    return torch.cuda.max_memory_allocated() if run.device == "cuda" else peak_memory_bytes()
