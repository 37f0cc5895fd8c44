"""Where the workers of a sweep run on this machine: their shares of the GPUs and of the cores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig

from densenet_cli.options import OptionError, UserError, whole_number
from densenet_cli.plain_text import last_line
from densenet_cli.process import child, ranks
from densenet_cli.process.load_torch import load_torch
from densenet_cli.run.supervisor import Place
from densenet_cli.units import memory

WITHOUT_GPU = 2  # workers, unless hydra.launcher.jobs is typed
MOST_ON_A_GPU = 48  # processes that NVIDIA's MPS serves on one GPU
OUTSIDE = 600 * 10**6  # bytes of a GPU that a process takes beside its tensors: CUDA's own, the kernels


class Gpu(NamedTuple):
    """A GPU: its name in CUDA_VISIBLE_DEVICES, and the bytes of its memory."""

    name: str
    memory: int


def worker_places(cfg: DictConfig, trainers: Sequence[dict[str, Any]], folder: Path) -> list[Place]:
    """One place for each worker: a single one, or several with hydra/launcher=parallel.

    Args:
        cfg: the configuration of the sweep as a whole.
        trainers: the section `trainer` of each job.
        folder: where several workers write what they print.

    Raises:
        OptionError: if there are fewer cores than workers, or too little memory on a GPU.
    """
    if cfg.hydra.launcher.get("kind") != "parallel":
        return [Place()]
    number = cfg.hydra.launcher.jobs
    if number is not None:
        whole_number("hydra.launcher.jobs", number, example=2)
    gpus = _gpus() if any(trainer["accelerator"] != "cpu" for trainer in trainers) else []
    return _on_gpus(gpus, number, trainers, folder) if gpus else _on_cores(number, folder)


def _on_gpus(
    gpus: list[Gpu], number: int | None, trainers: Sequence[dict[str, Any]], folder: Path
) -> list[Place]:
    for trainer in trainers:
        if ranks.needs_worker(trainer):
            rule = "must be 1 with hydra/launcher=parallel, which runs each job on one GPU"
            raise OptionError("trainer.devices", trainer["devices"], rule, 1)
    number = number or len(gpus)
    chosen = [gpus[index % len(gpus)] for index in range(number)]
    places = []
    for index, (gpu, (cores, threads)) in enumerate(zip(chosen, _core_shares(number), strict=True)):
        sharing = chosen.count(gpu)
        room = None if sharing == 1 else gpu.memory // sharing - OUTSIDE
        if room is not None and (room <= 0 or sharing > MOST_ON_A_GPU):
            fits = len(gpus) * max(1, min(gpu.memory // (2 * OUTSIDE), MOST_ON_A_GPU))
            rule = f"{sharing} runs do not fit on a GPU with {memory(gpu.memory)}"
            raise OptionError("hydra.launcher.jobs", number, rule, fits)
        environment = {"CUDA_VISIBLE_DEVICES": gpu.name, **threads}
        places.append(Place(cores, environment, _log(folder, index), room))
    return places


def _on_cores(number: int | None, folder: Path) -> list[Place]:
    cores = _cores()
    number = number or min(WITHOUT_GPU, len(cores) or WITHOUT_GPU)
    if cores and number > len(cores):
        raise OptionError("hydra.launcher.jobs", number, f"there are {len(cores)} cores", len(cores))
    return [
        Place(share, threads, _log(folder, index))
        for index, (share, threads) in enumerate(_core_shares(number))
    ]


def _core_shares(number: int) -> list[tuple[frozenset[int] | None, dict[str, str]]]:
    """For each of so many workers: its cores (None for all), and the variable for its threads."""
    cores = _cores()
    share = max(1, (len(cores) or os.cpu_count() or 1) // number)
    threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(share))}
    divided = [frozenset(cores[index * share : (index + 1) * share]) for index in range(number)]
    return [(one if all(divided) else None, threads) for one in divided]


def _cores() -> list[int]:
    """The cores that this process may use; none where the operating system does not say."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def shared_gpus(places: Sequence[Place]) -> int:
    """The number of GPUs that several of these places are on."""
    shared = [place for place in places if place.gpu_memory is not None]
    return len({place.environment["CUDA_VISIBLE_DEVICES"] for place in shared})


def _log(folder: Path, index: int) -> Path:
    return folder / f"worker-{index}.log"


def _gpus() -> list[Gpu]:
    """The GPUs that torch sees."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    command = child.command("densenet_cli.sweep.slots:print_gpus")
    answer = subprocess.run(
        command, env=child.environment(), capture_output=True, text=True, check=False
    )
    if answer.returncode:
        reason = last_line(answer.stderr)
        raise UserError(f"hydra/launcher=parallel: torch cannot count the GPUs: {reason}")
    memories = json.loads(answer.stdout)
    names = named.split(",") if named else [str(gpu) for gpu in range(len(memories))]
    return [Gpu(name, room) for name, room in zip(names, memories)]  # noqa: B905 -- names may go on


def print_gpus(_: list[str]) -> None:
    """Print the bytes of each GPU that torch sees; in a process of its own: a sweep loads no torch."""
    try:
        load_torch()
    except UserError as error:
        sys.exit(str(error))
    import torch

    gpus = range(torch.cuda.device_count())
    print(json.dumps([torch.cuda.get_device_properties(gpu).total_memory for gpu in gpus]))
