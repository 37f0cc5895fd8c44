"""plan=true: what a sweep would run and cost, and what of it is done, without training anything."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from densenet_cli.files.lock import is_locked
from densenet_cli.plain_text import counted, printable
from densenet_cli.record.run_record import last_checkpoint
from densenet_cli.run.summary import relative
from densenet_cli.sweep import slots
from densenet_cli.sweep.jobs import Job, Sweep
from densenet_cli.sweep.plan.estimate import Estimate, estimate
from densenet_cli.sweep.status import listed, output_console, stored_record
from densenet_cli.units import duration, memory


def show_plan(sweep: Sweep) -> int:
    """Measure what is not known yet about the unfinished jobs, and print the plan.

    Returns:
        The exit status: 0, or 1 if a job cannot be run.
    """
    status = Console(stderr=True)
    with status.status("measuring") as line:
        estimates = _estimates(sweep.jobs, lambda text: line.update(Text(printable(text))))
    states = [_state(job) for job in sweep.jobs]
    left = [_seconds_left(job, one) for job, one in zip(sweep.jobs, estimates, strict=True)]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("run", overflow="fold")
    table.add_column("state", no_wrap=True)
    titles = ["parameters", "multiply-adds", "memory", "time", "left"]
    has_budget = any(job.config.get("budget") is not None for job in sweep.jobs)
    for title in [*(["epochs"] if has_budget else []), *titles]:
        table.add_column(title, justify="right", no_wrap=True)
    for job, state, one, rest in zip(sweep.jobs, states, estimates, left, strict=True):
        epochs = ["?" if one.epochs is None else f"{one.epochs:.1f}"] if has_budget else []
        cells = [
            *epochs,
            _count(one.parameters),
            _count(one.multiply_adds),
            _memory(one.peak_memory_bytes),
        ]
        outcome = "cannot run" if one.error else state
        table.add_row(printable(job.folder.name), outcome, *cells, _time(one.seconds), _time(rest))
    console = output_console()
    console.print(table, soft_wrap=False)
    for reason in dict.fromkeys(one.error for one in estimates if one.error):
        jobs = zip(sweep.jobs, estimates, strict=True)
        refused = [job.folder.name for job, one in jobs if one.error == reason]
        console.print(printable(f"{listed(refused)} cannot run: {reason}") + "\n")
    _print_totals(console, sweep, estimates, left, states.count("done"))
    return 1 if any(one.error for one in estimates) else 0


def total_and_left(jobs: list[Job]) -> tuple[float, float]:
    """The seconds that jobs take one after another, in total and from now on, as far as is known."""
    estimates = _estimates(jobs, lambda text: None)
    left = [_seconds_left(job, one) or 0 for job, one in zip(jobs, estimates, strict=True)]
    return sum(one.seconds or 0 for one in estimates), sum(left)


def _estimates(jobs: list[Job], on_progress: Callable[[str], object]) -> list[Estimate]:
    """What each job costs: from its record if it is done, else an estimate."""
    records = {job.identity: stored_record(job) for job in jobs}
    known = {
        name: _recorded_cost(record)
        for name, record in records.items()
        if record.get("state") == "done"
    }
    unknown = [job for job in jobs if job.identity not in known]
    estimates = estimate([job.config for job in unknown], on_progress)
    known.update((job.identity, one) for job, one in zip(unknown, estimates, strict=True))
    return [known[job.identity] for job in jobs]


def _recorded_cost(record: Mapping[str, Any]) -> Estimate:
    return Estimate(
        record.get("parameters"),
        record.get("multiply_adds"),
        record.get("peak_memory_bytes"),
        record.get("seconds"),
        seconds_per_epoch=None,
        epochs=(record.get("budget") or record).get("epochs"),
        device="",
        error=None,
    )


def _state(job: Job) -> str:
    """The state of a job according to its record; interrupted also if its process was killed."""
    state = stored_record(job).get("state")
    if state == "running" and not is_locked(job.folder):
        return "interrupted"
    return str(state or "to do")


def _print_totals(
    console: Console, sweep: Sweep, estimates: list[Estimate], left: list[float | None], done: int
) -> None:
    console.print(
        f"{counted(len(sweep.jobs), 'run')} in {printable(relative(sweep.folder))}, {done} done"
    )
    total = sum(one.seconds or 0 for one in estimates)
    rest = sum(seconds or 0 for seconds in left)
    most = max((one.peak_memory_bytes or 0 for one in estimates), default=0)
    console.print(
        f"one run after another: {duration(total)} in total, {duration(rest)} left; "
        f"memory: {_memory(most)} at most"
    )
    for line in _at_once(sweep, estimates, [seconds or 0 for seconds in left]):
        console.print(line)
    devices = ", ".join(dict.fromkeys(one.device for one in estimates if one.device))
    if devices:
        console.print(f"estimated from a few training steps on {devices}")
    elif done < len(sweep.jobs):
        console.print("nothing could be measured")


def _at_once(sweep: Sweep, estimates: list[Estimate], left: list[float]) -> list[str]:
    """What it takes when several runs work at the same time, with hydra/launcher=parallel."""
    trainers = [job.config["trainer"] for job in sweep.jobs]
    places = slots.worker_places(sweep.cfg, trainers, sweep.folder)
    if len(places) == 1:
        return []
    best = duration(_together(left, len(places)))
    gpus = len({place.environment.get("CUDA_VISIBLE_DEVICES") for place in places})
    if not (shared := slots.shared_gpus(places)) and gpus > 1:
        return [f"{len(places)} runs at once, each on a GPU of its own: {best} left"]
    if not shared:
        return [f"{len(places)} runs at once, on shares of the cores: {best} left or more"]
    room = min(place.gpu_memory for place in places if place.gpu_memory is not None)
    turns = duration(_together(left, gpus))
    lines = [
        f"{len(places)} runs at once on {counted(gpus, 'GPU')}: {best} left if they compute together "
        f"without loss, {turns} if they take turns; {memory(room)} of the GPU's memory for each"
    ]
    if large := sum((one.peak_memory_bytes or 0) > room for one in estimates):
        what = "run needs" if large == 1 else "runs need"
        lines.append(f"{large} {what} more than that: choose fewer by hydra.launcher.jobs=")
    return lines


def _together(seconds: list[float], number: int) -> float:
    """The seconds that runs take, begun in this order, so many at once."""
    ends = [0.0] * number
    for one in seconds:
        heapq.heapreplace(ends, ends[0] + one)
    return max(ends)


def _seconds_left(job: Job, one: Estimate) -> float | None:
    """The time that the rest of a job takes; a run that has no checkpoint begins again."""
    record = stored_record(job)
    if record.get("state") == "done":
        return 0.0
    if one.seconds is None:
        return None
    if not last_checkpoint(job.folder).exists():
        return one.seconds
    epochs = one.epochs or job.config["epochs"]
    return one.seconds * max(0.0, 1 - (record.get("epoch") or 0) / epochs)


def _time(seconds: float | None) -> str:
    return "?" if seconds is None else duration(seconds)


def _count(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"


def _memory(number: int | None) -> str:
    return memory(number) if number else "?"
