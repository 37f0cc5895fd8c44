"""A running sweep as a live table, from its records alone."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.text import Text

from densenet_cli.figures import terminal
from densenet_cli.options import UserError
from densenet_cli.record.sweep_file import read_sweep
from densenet_cli.results.columns import failure
from densenet_cli.results.records import (
    BROKEN_OFF,
    LeftOut,
    Run,
    in_natural_order,
    read_metrics,
    read_runs,
)
from densenet_cli.results.settings import measured
from densenet_cli.units import duration

TO_DO = "to do"
UNREADABLE = "unreadable"
ORDER = ("running", "failed", BROKEN_OFF, "interrupted", UNREADABLE, "done", TO_DO)
STYLES = {
    "running": "cyan",
    "failed": "red",
    BROKEN_OFF: "red",
    "interrupted": "yellow",
    "done": "green",
}
LONGEST = 1e9  # seconds, thirty years; what is farther away has no date
RECENT_EPOCHS = 3  # whose mean time tells how long the next ones take


@dataclass(frozen=True)
class Job:
    """One job of a sweep, as its records tell it now.

    Args:
        name: its folder, below the sweep's.
        status: one of ORDER.
        epoch: epochs completed; None before the first record.
        epochs: of the whole run.
        error: the newest test or validation error in percent.
        images_per_second: training speed.
        seconds: since it began, pauses apart.
        seconds_left: until it is done, an estimate; None if there is nothing to tell it by.
        note: why it failed.
    """

    name: str
    status: str
    epoch: int | None = None
    epochs: int | None = None
    error: float | None = None
    images_per_second: float | None = None
    seconds: float | None = None
    seconds_left: float | None = None
    note: str = ""


def watch(folder: Path, interval: float = 2.0, once: bool = False) -> None:
    """Show the jobs below a folder until none is running or to do; Ctrl-C leaves.

    Args:
        folder: of a sweep, or of several runs.
        interval: seconds between two looks.
        once: look once only.

    Raises:
        UserError: if the folder does not exist, or holds neither runs nor a sweep.
    """
    jobs = read_jobs(folder)
    if not jobs:
        raise UserError(f"{folder}: there is no run below; name the folder of a sweep")
    console = terminal.console()
    if once:
        console.print(view(folder, jobs))
        return
    with (
        contextlib.suppress(KeyboardInterrupt),
        Live(view(folder, jobs), console=console, auto_refresh=False) as live,
    ):
        while any(job.status in ("running", TO_DO) for job in jobs):
            time.sleep(interval)
            jobs = read_jobs(folder)
            live.update(view(folder, jobs), refresh=True)


def read_jobs(folder: Path) -> list[Job]:
    """The jobs below a folder: those with a record, and those that sweep.yaml plans."""
    runs, unreadable = read_runs([folder])
    jobs = [_job(folder, run, time.time()) for run in runs]
    known = {job.name for job in jobs}
    for item in (item for item in unreadable if not isinstance(item, LeftOut)):
        name = os.path.relpath(item.path, folder).removesuffix("/run.json")
        known.add(name)
        jobs.append(Job(name, UNREADABLE, note=item.reason))
    jobs += [Job(name, TO_DO) for name in read_sweep(folder)[1] if name not in known]
    return sorted(jobs, key=lambda job: (ORDER.index(job.status), in_natural_order(job.name)))


def view(folder: Path, jobs: Sequence[Job]) -> Group:
    """The header with totals, and a row a job."""
    headings = ["job", "state", "epoch", "error %", "images/s", "time", "left"]
    headings += ["why"] if any(job.note for job in jobs) else []
    cells = (_cells(job)[: len(headings)] for job in jobs)
    table = terminal.table(headings, cells, text=("job", "state", "why"))
    return Group(terminal.plain(f"{folder}: {summary(jobs)}"), table)


def summary(jobs: Sequence[Job]) -> str:
    """Totals, and when all will be done: "12 jobs: 1 running, 3 done, 8 to do; all done in ..."."""
    counts = Counter(job.status for job in jobs)
    parts = [f"{counts[status]} {status}" for status in ORDER if counts[status]]
    text = f"{len(jobs)} {'job' if len(jobs) == 1 else 'jobs'}: {', '.join(parts)}"
    left = seconds_left(jobs)
    if left is None or left > LONGEST:
        return text
    moment = datetime.now() + timedelta(seconds=left)
    day = "" if moment.date() == datetime.now().date() else f"{moment:%Y-%m-%d} "
    return f"{text}; all done in about {duration(left)}, at {day}{moment:%H:%M}"


def seconds_left(jobs: Sequence[Job]) -> float | None:
    """Until no job is running or to do, if as many go on side by side as now; None if unknown.

    A job to do is taken to need the mean time of those that are done or running.
    """
    running = [job for job in jobs if job.status == "running"]
    to_do = sum(job.status == TO_DO for job in jobs)
    left = [job.seconds_left for job in running]
    whole = [job.seconds for job in jobs if job.status == "done" and job.seconds is not None]
    whole += [
        job.seconds + job.seconds_left
        for job in running
        if job.seconds is not None and job.seconds_left is not None
    ]
    known = [seconds for seconds in left if seconds is not None]
    if not running or len(known) < len(left) or (to_do and not whole):
        return None
    if not to_do:
        return max(known)
    return (sum(known) + to_do * sum(whole) / len(whole)) / len(running)


def _job(folder: Path, run: Run, now: float) -> Job:
    name, status = str(run.folder.relative_to(folder)), run.status
    rows = _rows(run)
    last: dict[str, Any] = rows[-1] if rows else {}
    epoch, epochs = run.fields.get("epoch"), run.fields.get("epochs")
    since = _seconds_since_update(run, now) if status == "running" else 0.0
    seconds = (measured(run, "seconds") or 0.0) + since
    left = None
    if status == "running" and rows and epoch is not None and epochs is not None:
        left = max(0.0, (epochs - epoch) * _epoch_seconds(rows) - since)
    error = measured(run, "error")
    return Job(
        name=name,
        status=status,
        epoch=epoch,
        epochs=epochs,
        error=last.get("validation_error", last.get("test_error")) if error is None else error,
        images_per_second=measured(run, "images_per_second") or last.get("images_per_second"),
        seconds=seconds or None,
        seconds_left=left,
        note=failure(run),
    )


def _rows(run: Run) -> list[dict[str, float | None]]:
    """The epochs of a run that is not done; the record of one that is holds all that is shown."""
    if run.status == "done":
        return []
    try:
        return read_metrics(run)
    except UserError:  # the record still tells the epoch and the time
        return []


def _epoch_seconds(rows: Sequence[dict[str, float | None]]) -> float:
    recent = [row.get("seconds") or 0.0 for row in rows[-RECENT_EPOCHS:]]
    return sum(recent) / len(recent)


def _seconds_since_update(run: Run, now: float) -> float:
    updated = run.fields.get("updated")
    return max(0.0, now - datetime.fromisoformat(updated).timestamp()) if updated else 0.0


def _cells(job: Job) -> list[str | Text]:
    return [
        job.name,
        Text(job.status, STYLES.get(job.status, "")),
        "" if job.epoch is None else f"{job.epoch}/{job.epochs}",
        "" if job.error is None else f"{job.error:.2f}",
        "" if job.images_per_second is None else f"{job.images_per_second:,.0f}",
        "" if job.seconds is None else duration(job.seconds),
        "" if job.seconds_left is None else duration(job.seconds_left),
        job.note,
    ]
