"""The places of this machine at which the jobs of a sweep run: a GPU or a share of the cores each."""

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

WITHOUT_GPU = 2  # jobs at once, unless typed


def shared_out(cfg: DictConfig, trainers: Sequence[dict[str, Any]], folder: Path) -> list[Place]:
    """One place for all jobs, or with hydra/launcher=parallel several.

    Args:
        cfg: the configuration of the sweep as a whole.
        trainers: the section `trainer` of each job.
        folder: where the jobs' words are logged if several run at once.

    Raises:
        OptionError: if there are fewer GPUs or cores than jobs at once.
    """
    if "jobs" not in cfg.hydra.launcher:
        return [Place()]
    wanted = cfg.hydra.launcher.jobs
    if wanted is not None:
        whole_number("hydra.launcher.jobs", wanted, example=2)
    gpus = _gpus() if any(trainer["accelerator"] != "cpu" for trainer in trainers) else []
    for trainer in trainers if gpus else []:
        if ranks.needs_worker(trainer):
            rule = "each job has one GPU with hydra/launcher=parallel"
            raise OptionError("trainer.devices", trainer["devices"], rule, 1)
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    number = wanted or len(gpus) or min(WITHOUT_GPU, len(cores) or WITHOUT_GPU)
    logs = [folder / f"worker-{place}.log" for place in range(number)]
    if gpus:
        if number > len(gpus):
            raise OptionError("hydra.launcher.jobs", number, f"there are {len(gpus)} GPUs", len(gpus))
        seen = [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus]
        return [Place(None, seen[place], logs[place]) for place in range(number)]
    if cores and number > len(cores):
        raise OptionError("hydra.launcher.jobs", number, f"there are {len(cores)} cores", len(cores))
    share = max(1, (len(cores) or os.cpu_count() or 1) // number)
    return [
        Place(
            frozenset(cores[place * share : (place + 1) * share]) or None,
            {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(share))},
            logs[place],
        )
        for place in range(number)
    ]


def _gpus() -> list[str]:
    """The GPUs that torch sees, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = child.command("densenet_cli.sweep.slots:print_gpu_count")
    answer = subprocess.run(count, env=child.environment(), capture_output=True, text=True, check=False)
    if answer.returncode:
        reason = last_line(answer.stderr)
        raise UserError(f"hydra/launcher=parallel: torch cannot count the GPUs: {reason}")
    number = int(answer.stdout)
    return named.split(",")[:number] if named else [str(gpu) for gpu in range(number)]


def print_gpu_count(words: list[str]) -> None:
    """Print how many GPUs torch sees; in a process of its own, for a sweep itself loads no torch."""
    try:
        load_torch()
    except UserError as error:
        sys.exit(str(error))
    import torch

    print(torch.cuda.device_count())
