"""How the processes of a run are started: by us, by torchrun, or by SLURM's srun."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from densenet_cli.options import UserError
from densenet_cli.record import RunRecord, now
from densenet_cli.whole_file import replace_file


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


def supervise(folder: Path, config: dict[str, Any], overrides: list[str], resume: bool) -> int:
    """Execute a run in a process of its own, without Hydra, and wait for it.

    Lightning starts the further processes of a run by typing the first one's command again. With
    Hydra in that command each of them would start the sweep again; `densenet_cli.worker` is a
    command that can be typed again.

    Returns:
        The exit status. A run whose process was killed is recorded as failed.
    """
    job = folder / f".job-{os.getpid()}.json"
    content = {"folder": str(folder), "config": config, "overrides": overrides, "resume": resume}
    replace_file(job, json.dumps(content))
    worker = subprocess.Popen(
        [sys.executable, "-m", "densenet_cli.worker", str(job)],
        stdin=subprocess.PIPE,  # closes when we die, which tells the worker: see die_with_parent
        start_new_session=True,  # so that only the first of its processes is told of Ctrl-C
    )

    def forward(signum: int, frame: FrameType | None) -> None:
        worker.send_signal(signum)

    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        status = worker.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)  # no process of the run outlives it
        job.unlink(missing_ok=True)
    return status if status >= 0 else _record_death(folder, -status)


def _record_death(folder: Path, signum: int) -> int:
    """Record that a run's first process was killed; the exit status."""
    message = take_message(folder)
    if message is None:
        message = f"the run's process was killed ({signal.Signals(signum).name}); out of memory?"
    RunRecord.read(folder).update(state="failed", error=message, ended=now())
    print(f"densenet-run: {message} (see {folder / 'run.log'})", file=sys.stderr)
    return 1


def die_with_parent() -> None:
    """In a worker: end all processes of the run once the command that started them is gone."""

    def watch() -> None:
        os.read(0, 1)  # returns when the other end of our standard input is closed
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


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
