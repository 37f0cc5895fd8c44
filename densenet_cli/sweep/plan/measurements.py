"""What a few training steps cost on this machine: measured in a process of its own, and cached."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import os
import platform
import signal
import subprocess
import tempfile
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from densenet_cli.files.atomic_file import replace_file
from densenet_cli.files.cache import cache_folder
from densenet_cli.files.plain_file import UnreadableFile, read_json
from densenet_cli.options import UserError
from densenet_cli.plain_text import last_line
from densenet_cli.process import child
from densenet_cli.process.load_torch import load_lightning
from densenet_cli.record.trained_on import PLACES
from densenet_cli.sweep.plan.measurement import Measurement

log = logging.getLogger(__name__)

# Arguments of Lightning's Trainer that set how much is done, not how fast.
AMOUNTS = (
    "max_steps",
    "max_time",
    "min_epochs",
    "min_steps",
    "limit_test_batches",
    "check_val_every_n_epoch",
    "val_check_interval",
    "num_sanity_val_steps",
    "enable_progress_bar",
)
TRAIN_BATCHES, EVALUATION_BATCHES = 30, 3  # of a benchmark run, at most


def benchmark_config(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a benchmark run: the same for all runs whose steps cost the same.

    Seeds, schedule, learning rate, logger, the check and all amounts are set to fixed values.
    """
    short = {name: copy.deepcopy(config[name]) for name in ("model", "data", "recipe", "trainer")}
    short |= {"task": "train", "epochs": 1, "seed": 0, "checkpoint": None, "resume": None}
    short |= {"checkpoint_minutes": 1e6, "logger": {}, "next_steps": []}
    short["pretrained"] = {"weights": None, "frozen": False, "layer_decay": 1}
    short["data"]["seed"] = 0
    if short["data"].get("check"):
        short["data"]["check"] = "quick"  # a plan need not decode all images
    recipe, trainer = short["recipe"], short["trainer"]
    recipe |= {"epochs": 1, "report": "last", "batch_size": short["data"]["batch_size"]}
    recipe["schedule"] = {"_target_": "densenet_cli.training.schedules.constant"}
    recipe["optimizer"]["lr"] = 1e-3
    for name in ("steps", "warm_up", "reset_momentum_at_drops"):
        recipe.pop(name, None)
    for name in AMOUNTS:
        trainer.pop(name, None)
    trainer |= {"limit_train_batches": TRAIN_BATCHES, "limit_val_batches": EVALUATION_BATCHES}
    trainer["limit_test_batches"] = 0
    return short


class Measurements:
    """The results of benchmark runs; those that succeeded are cached in a file.

    Args:
        path: the file; by default measured_steps.json in the user's cache folder, if there is one. A
            damaged file is replaced.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or cache_folder("measured_steps.json")
        self._known = self._read()

    def get(self, config: dict[str, Any]) -> Measurement | None:
        """The result of a benchmark run; None if it was not run yet."""
        return self._known.get(_key(config))

    def measure(self, config: dict[str, Any]) -> Measurement:
        """Run a benchmark, and cache the result if it succeeds and can be cached."""
        key = _key(config)
        measured = _run_benchmark(config)
        if measured.error is None:
            self._known = {**self._read(), **self._known, key: measured}
            self._write()
        return measured

    def _write(self) -> None:
        if self.path is None:
            return
        content = {name: asdict(one) for name, one in self._known.items()}
        try:
            replace_file(self.path, json.dumps(content, indent=1))
        except UserError as error:
            log.warning("%s: the measurements are made again the next time", error)
            self.path = None

    def _read(self) -> dict[str, Measurement]:
        if self.path is None:
            return {}
        try:
            content = read_json(self.path)
        except (FileNotFoundError, UnreadableFile):
            return {}
        entries = content.items() if isinstance(content, dict) else ()
        return {key: Measurement(**fields) for key, fields in entries if _is_valid(fields)}


def _is_valid(fields: Any) -> bool:
    """Whether an entry of the file is a `Measurement` without an error."""
    if not isinstance(fields, dict) or fields.keys() != asdict(Measurement()).keys():
        return False
    sizes = fields["sizes"]
    speeds = [fields["images_per_second"], fields["evaluation_images_per_second"]]
    amounts = ("parameters", "multiply_adds", "left_out_multiply_adds", "peak_memory_bytes")
    numbers = [fields[name] for name in (*amounts, "start_seconds", "epoch_end_seconds")]
    return (
        isinstance(sizes, dict)
        and sizes.keys() == {"train", "validation", "test"}
        and fields["evaluation_split"] in sizes
        and isinstance(fields["device"], str)
        and all(isinstance(one, (int, float)) for one in [*speeds, *numbers, *sizes.values()])
        and min(*numbers, *sizes.values()) >= 0
        and min(speeds) > 0
    )


def _run_benchmark(config: dict[str, Any]) -> Measurement:
    """Run a benchmark in a process of its own, since it may be killed for lack of memory."""
    with tempfile.TemporaryDirectory(prefix="densenet-cli-") as name:
        folder = Path(name)
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        process = subprocess.run(
            child.command("densenet_cli.sweep.plan.measurements:benchmark", name),
            env=child.environment(),
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        try:
            measured = json.loads((folder / "measurement.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            measured = {}
    if process.returncode:
        measured["error"] = _failure(process)
    return Measurement(**measured)


def benchmark(arguments: list[str]) -> None:
    """The entry point of that process; it loads torch quickly."""
    load_lightning()
    from densenet_cli.sweep.plan import benchmark_run

    benchmark_run.main(arguments)


def _failure(process: subprocess.CompletedProcess[str]) -> str:
    if process.returncode < 0:
        name = signal.Signals(-process.returncode).name
        return f"the benchmark process was killed ({name}); out of memory?"
    last = last_line(process.stderr)
    return f"the benchmark process ended with status {process.returncode}: {last}"


def _key(config: dict[str, Any]) -> str:
    """A name for everything that decides the result of a benchmark run."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    decides = {
        "config": config,
        "images": _folders(config["data"]),
        "machine": [platform.node(), cores],
        "environment": {
            name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
        },
        "versions": [metadata.version(package) for package in ("densenet-cli", "torch", "lightning")],
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]


def _folders(data: dict[str, Any]) -> list[tuple[str, int]]:
    """The folders and tables of a user's own images, and when each was last changed."""
    typed = [data.get(name) for name in PLACES]
    if "download" in data:  # published data do not change
        return []
    paths = [Path(os.path.expanduser(one)) for one in typed if isinstance(one, str)]
    found = {one for path in paths for one in (*path.glob("*/"), *path.glob("*/*/")) if one.is_dir()}
    found |= {path for path in paths if path.is_file()}
    return sorted((str(one), one.stat().st_mtime_ns) for one in found)
