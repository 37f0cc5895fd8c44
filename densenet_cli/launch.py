"""How the processes of a run are started: by us, by torchrun, or by SLURM's srun."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from densenet_cli.options import UserError

SPINS = "10000"  # some 0.07 us each


def launched_from_outside() -> bool:
    """Whether torchrun or srun started several processes of this command together."""
    return _torchrun() or _srun()


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
    return any(int(os.environ.get(count, "0")) > 0 for count in counts)


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
    """In a process other than the first: say why it fails, for who finds the first one killed."""
    _message_path(folder).write_text(f"process {global_rank()}: {message}", encoding="utf-8")


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
    return "TORCHELASTIC_RUN_ID" in os.environ and "RANK" in os.environ


def _srun() -> bool:
    return (
        int(os.environ.get("SLURM_NTASKS", "1")) > 1
        and "SLURM_PROCID" in os.environ
        and os.environ.get("SLURM_STEP_ID", "").isdigit()
    )
