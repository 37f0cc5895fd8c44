"""How the processes of a run are started: by us, by torchrun, or by SLURM's srun."""

from __future__ import annotations

import os
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Any, Literal

from densenet_cli.options import UserError

NOT_LOADED = 71  # exit status of a worker that could not load torch (EX_OSERR)
SPINS = "10000"  # some 0.07 us each

# What each process is told of its place by torchrun and by srun, who always set all of these.
TORCHRUN = ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT")
TORCHRUN_NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
SRUN_NUMBERS = (
    *("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_NTASKS"),
    *("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"),
)
SPECIAL_STEP = 4294967280  # SLURM numbers from here on the steps that are no srun: batch, interactive
RANKS = (  # what Lightning, torchmetrics and we read, whoever has set it
    *("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", *TORCHRUN_NUMBERS),
    *("ROLE_RANK", "ROLE_WORLD_SIZE", "GROUP_WORLD_SIZE"),
    *("SLURM_STEP_ID", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"),
    *("JSM_NAMESPACE_RANK", "JSM_NAMESPACE_LOCAL_RANK", "JSM_NAMESPACE_SIZE"),
)
NODES = ("NODE_RANK", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")  # of a run on several machines


def launcher() -> Literal["torchrun", "srun"] | None:
    """Who started several processes of this command together, if anybody did."""
    return "torchrun" if _torchrun() else "srun" if _srun() else None


def launched_from_outside() -> bool:
    """Whether torchrun or srun started several processes of this command together."""
    return launcher() is not None


def forget(names: Sequence[str], environment: MutableMapping[str, str] = os.environ) -> None:
    """Remove variables that say this process is one of several, unless torchrun or srun has set them.

    A rank that is left in a shell, from a container, a notebook or an interactive SLURM job, would
    else make a process believe that another one writes the record.

    Args:
        names: RANKS, NODES or both. To be called with RANKS before Lightning is loaded, which reads
            them as it loads; with NODES only for a run on one machine.
        environment: where they are removed.
    """
    if not launched_from_outside():
        for name in names:
            environment.pop(name, None)


def forget_nodes(trainer: dict[str, Any]) -> None:
    """In the first process of a run: forget NODES unless the run is one on several machines."""
    if trainer["num_nodes"] in (1, "1") and "LOCAL_RANK" not in os.environ:
        forget(NODES)


def global_rank() -> int:
    """This process's number among those started together; 0 if it is alone."""
    if _torchrun():
        return int(os.environ["RANK"])
    if _srun():
        return int(os.environ["SLURM_PROCID"])
    return int(os.environ.get("NODE_RANK", "0")) or int(os.environ.get("LOCAL_RANK", "0"))


def is_first_process() -> bool:
    """Whether this process is the one that writes."""
    return global_rank() == 0


def launch_id() -> str | None:
    """A name that the processes started together from outside share; None if there are none.

    Raises:
        UserError: if torchrun was given no id that tells this launch from another.
    """
    if _srun():
        return f"slurm-{os.environ['SLURM_JOB_ID']}-{os.environ['SLURM_STEP_ID']}"
    if not _torchrun():
        return None
    name = os.environ["TORCHELASTIC_RUN_ID"]
    if name == "none":
        raise UserError(
            "torchrun gave this run no name, so that its processes cannot agree on a folder: "
            "add --standalone or --rdzv-id=NAME to torchrun, or type hydra.run.dir=outputs/NAME"
        )
    return f"torchrun-{name}"


def restarted() -> bool:
    """Whether an earlier start of this very launch was broken off (requeued, or restarted)."""
    counts = ("SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT")
    return any(os.environ.get(count, "").isdecimal() and int(os.environ[count]) > 0 for count in counts)


def needs_worker(trainer: dict[str, Any]) -> bool:
    """Whether a run must have a process of its own, since Lightning will start others from it."""
    lone = (
        trainer["devices"] in (1, "1")
        and trainer["num_nodes"] in (1, "1")
        and trainer["strategy"] == "auto"
    )
    return not lone and not launched_from_outside()


def spin_briefly() -> None:
    """Let OpenMP's threads spin for less than a millisecond where they wait, then sleep.

    GNU's OpenMP, which torch brings, spins some 20 ms. On cores that are busy with other processes it
    so takes the time from the very thread that it waits for, thousands of times in a training step.
    To be called before torch is loaded; further processes inherit it. What the user set stays.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


def leave_message(folder: Path, message: str) -> None:
    """Say why a process of a run fails before it can record it, or is not the one that records."""
    who = "" if is_first_process() else f"process {global_rank()}: "
    _message_path(folder).write_text(who + message, encoding="utf-8")


def take_message(folder: Path) -> str | None:
    """The message that another process of the run left as it failed, if any."""
    path = _message_path(folder)
    if not path.exists():
        return None
    message = path.read_text(encoding="utf-8")
    path.unlink()
    return message


def _message_path(folder: Path) -> Path:
    return folder / ".failure"


def _torchrun() -> bool:
    return all(name in os.environ for name in TORCHRUN) and _are_numbers(TORCHRUN_NUMBERS)


def _srun() -> bool:
    """Whether srun started this process as one of several, and no shell for a person to type in."""
    if not _are_numbers(SRUN_NUMBERS) or "SLURM_PTY_PORT" in os.environ:  # srun --pty
        return False
    interactive = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    of_job = "1" if interactive else os.environ["SLURM_NTASKS"]
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", of_job)
    return int(os.environ["SLURM_STEP_ID"]) < SPECIAL_STEP and tasks.isdecimal() and int(tasks) > 1


def _are_numbers(names: Sequence[str]) -> bool:
    return all(os.environ.get(name, "").isdecimal() for name in names)
