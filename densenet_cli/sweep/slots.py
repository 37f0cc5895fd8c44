"""Where the workers of a sweep run on this machine: each on a GPU, or on a share of the cores."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from densenet_cli.options import OptionError, UserError, whole_number
from densenet_cli.plain_text import last_line
from densenet_cli.process import child, ranks
from densenet_cli.process.load_torch import load_torch
from densenet_cli.run.supervisor import Place

WITHOUT_GPU = 2  # workers, unless hydra.launcher.jobs is typed


def worker_places(cfg: DictConfig, trainers: Sequence[dict[str, Any]], folder: Path) -> list[Place]:
    """One place for each worker: a single one, or several with hydra/launcher=parallel.

    Args:
        cfg: the configuration of the sweep as a whole.
        trainers: the section `trainer` of each job.
        folder: where several workers write what they print.

    Raises:
        OptionError: if there are fewer GPUs or cores than workers.
    """
    if cfg.hydra.launcher.get("kind") != "parallel":
        return [Place()]
    number = cfg.hydra.launcher.jobs
    if number is not None:
        whole_number("hydra.launcher.jobs", number, example=2)
    gpus = _gpus() if any(trainer["accelerator"] != "cpu" for trainer in trainers) else []
    return _on_gpus(gpus, number, trainers, folder) if gpus else _on_cores(number, folder)


def _on_gpus(
    gpus: list[str], number: int | None, trainers: Sequence[dict[str, Any]], folder: Path
) -> list[Place]:
    for trainer in trainers:
        if ranks.needs_worker(trainer):
            rule = "must be 1 with hydra/launcher=parallel, which runs each job on one GPU"
            raise OptionError("trainer.devices", trainer["devices"], rule, 1)
    number = number or len(gpus)
    if number > len(gpus):
        raise OptionError("hydra.launcher.jobs", number, f"there are {len(gpus)} GPUs", len(gpus))
    return [
        Place(None, {"CUDA_VISIBLE_DEVICES": gpu}, _log(folder, index))
        for index, gpu in enumerate(gpus[:number])
    ]


def _on_cores(number: int | None, folder: Path) -> list[Place]:
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    number = number or min(WITHOUT_GPU, len(cores) or WITHOUT_GPU)
    if cores and number > len(cores):
        raise OptionError("hydra.launcher.jobs", number, f"there are {len(cores)} cores", len(cores))
    share = max(1, (len(cores) or os.cpu_count() or 1) // number)
    threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(share))}
    return [
        Place(
            frozenset(cores[index * share : (index + 1) * share]) or None, threads, _log(folder, index)
        )
        for index in range(number)
    ]


def _log(folder: Path, index: int) -> Path:
    return folder / f"worker-{index}.log"


def _gpus() -> list[str]:
    """The GPUs that torch sees, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    command = child.command("densenet_cli.sweep.slots:print_gpu_count")
    answer = subprocess.run(
        command, env=child.environment(), capture_output=True, text=True, check=False
    )
    if answer.returncode:
        reason = last_line(answer.stderr)
        raise UserError(f"hydra/launcher=parallel: torch cannot count the GPUs: {reason}")
    number = int(answer.stdout)
    return named.split(",")[:number] if named else [str(gpu) for gpu in range(number)]


def print_gpu_count(_: list[str]) -> None:
    """Print how many GPUs torch sees; in a process of its own, since a sweep does not load torch."""
    try:
        load_torch()
    except UserError as error:
        sys.exit(str(error))
    import torch

    print(torch.cuda.device_count())
