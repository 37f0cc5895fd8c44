"""plan=true: what a sweep would run and cost, and what of it is done, without training anything."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from densenet_cli.files.lock import is_locked
from densenet_cli.plain_text import printable
from densenet_cli.record.run_record import last_checkpoint
from densenet_cli.run.summary import relative
from densenet_cli.sweep.job_table import output
from densenet_cli.sweep.jobs import Job, Sweep
from densenet_cli.sweep.plan.estimate import Estimate, estimate
from densenet_cli.sweep.standing import record
from densenet_cli.units import duration

STATES = {None: "to do", "interrupted": "broken off"}


def show(sweep: Sweep) -> int:
    """Measure what is not known yet of the jobs that are left, and print the plan; the exit status.

    Returns:
        0, or 1 if a job cannot be run as it is typed.
    """
    status = Console(stderr=True)
    with status.status("measuring") as line:
        estimates = _costs(sweep.jobs, lambda text: line.update(Text(printable(text))))
    states = [_state(job) for job in sweep.jobs]
    done = [_epochs_done(sweep, number) for number in range(len(sweep.jobs))]
    left = [_left(one, part) for one, part in zip(estimates, done, strict=True)]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("job", overflow="fold")
    table.add_column("state", no_wrap=True)
    for title in ("parameters", "multiply-adds", "memory", "time", "left"):
        table.add_column(title, justify="right", no_wrap=True)
    for job, state, one, rest in zip(sweep.jobs, states, estimates, left, strict=True):
        cells = [_count(one.parameters), _count(one.multiply_adds), _bytes(one.peak_memory_bytes)]
        outcome = "cannot run" if one.error else state
        table.add_row(printable(job.folder.name), outcome, *cells, _time(one.seconds), _time(rest))
    console = output()
    console.print(table, soft_wrap=False)
    for reason in dict.fromkeys(one.error for one in estimates if one.error):
        jobs = zip(sweep.jobs, estimates, strict=True)
        refused = [job.folder.name for job, one in jobs if one.error == reason]
        console.print(printable(f"{' '.join(refused)} cannot run: {reason}") + "\n")
    _sums(console, sweep, estimates, left, states.count("done"))
    return 1 if any(one.error for one in estimates) else 0


def _costs(jobs: list[Job], on_progress: Callable[[str], object]) -> list[Estimate]:
    """What each job costs: what its record tells if it is done, else an estimate."""
    known = {job.identity: _recorded(record(job)) for job in jobs if record(job).get("state") == "done"}
    left = [job for job in jobs if job.identity not in known]
    estimates = estimate([job.config for job in left], on_progress)
    known.update((job.identity, one) for job, one in zip(left, estimates, strict=True))
    return [known[job.identity] for job in jobs]


def _recorded(fields: Mapping[str, Any]) -> Estimate:
    """The cost of a run that is done."""
    return Estimate(
        fields.get("parameters"),
        fields.get("multiply_adds"),
        fields.get("peak_memory_bytes"),
        fields.get("seconds"),
        seconds_per_epoch=None,
        device="",
        error=None,
    )


def _state(job: Job) -> str:
    """A job's state, as its record and its folder tell it."""
    state = record(job).get("state")
    if state == "running" and not is_locked(job.folder):
        return "broken off"
    return STATES.get(state) or str(state)


def _sums(
    console: Console, sweep: Sweep, estimates: list[Estimate], left: list[float | None], done: int
) -> None:
    console.print(f"{len(sweep.jobs)} jobs in {printable(relative(sweep.folder))}, {done} done")
    whole = sum(one.seconds or 0 for one in estimates)
    rest = sum(seconds or 0 for seconds in left)
    memory = max((one.peak_memory_bytes or 0 for one in estimates), default=0)
    text = (
        f"one after another {duration(whole)} in all, {duration(rest)} left; {_bytes(memory)} at most"
    )
    console.print(text)
    devices = ", ".join(dict.fromkeys(one.device for one in estimates if one.device))
    if devices:
        console.print(f"estimated from short runs on {devices}")
    elif done < len(sweep.jobs):
        console.print("nothing could be measured")


def _epochs_done(sweep: Sweep, number: int) -> float:
    """The part of a job's epochs that is over and need not be run again, 0..1."""
    job = sweep.jobs[number]
    fields = record(job)
    if fields.get("state") == "done":
        return 1.0
    if not last_checkpoint(job.folder).exists():
        return 0.0
    return min(1.0, (fields.get("epoch") or 0) / job.config["epochs"])


def _left(one: Estimate, done: float) -> float | None:
    return None if one.seconds is None else one.seconds * (1 - done)


def _time(seconds: float | None) -> str:
    return "?" if seconds is None else duration(seconds)


def _count(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"


def _bytes(number: int | None) -> str:
    if not number:
        return "?"
    unit, name = (1e9, "GB") if number >= 1e9 else (1e6, "MB")
    return f"{math.ceil(number / unit * 100) / 100:.3g} {name}"
