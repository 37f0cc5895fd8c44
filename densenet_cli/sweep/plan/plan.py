"""plan=true, plan=json: what a sweep would run and cost, and what is done, without training."""

from __future__ import annotations

import heapq
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from densenet_cli.files.json_document import json_document
from densenet_cli.files.lock import is_locked
from densenet_cli.plain_text import counted, printable
from densenet_cli.record import run_length
from densenet_cli.record.run_record import last_checkpoint
from densenet_cli.run.summary import relative
from densenet_cli.sweep import slots
from densenet_cli.sweep.jobs import Job, Sweep
from densenet_cli.sweep.plan.estimate import Estimate, estimate
from densenet_cli.sweep.status import listed, output_console, stored_record
from densenet_cli.units import duration, memory


@dataclass(frozen=True)
class Planned:
    """A run of a sweep.

    Attributes:
        job: with its configuration and its folder.
        state: according to its record; "to do" if it has none.
        cost: of the whole run.
        seconds_left: of the rest of it; None if not known.
    """

    job: Job
    state: str
    cost: Estimate
    seconds_left: float | None


def show_plan(sweep: Sweep, at_most: list[Job] | None = None) -> int:
    """Measure what is not known yet about the unfinished jobs, and print the plan.

    Args:
        sweep: with plan=json it is printed as a JSON document, else as a table.
        at_most: for JSON, the jobs of a sweep that may add seeds to those it needs in any case.

    Returns:
        The exit status: 0, or 1 if a job cannot be run.
    """
    status = Console(stderr=True)
    with status.status("measuring") as line:
        planned = _planned(sweep.jobs, lambda text: line.update(Text(printable(text))))
    if sweep.cfg.plan == "json":
        sys.stdout.write(json_document(_document(sweep, planned, at_most)))
    else:
        _show(output_console(), sweep, planned)
    return 1 if any(one.cost.error for one in planned) else 0


def _show(console: Console, sweep: Sweep, planned: list[Planned]) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("run", overflow="fold")
    table.add_column("state", no_wrap=True)
    titles = ["parameters", "multiply-adds", "memory", "time", "left"]
    in_parts = any(run_length.is_in_parts(job.config) for job in sweep.jobs)
    is_shown = in_parts or len({one.cost.epochs for one in planned}) > 1
    for title in [*(["epochs"] if is_shown else []), *titles]:
        table.add_column(title, justify="right", no_wrap=True)
    for one in planned:
        cost = one.cost
        epochs = [_epochs(cost.epochs, in_parts)] if is_shown else []
        cells = [_count(cost.parameters), _count(cost.multiply_adds), _memory(cost.peak_memory_bytes)]
        times = [_time(cost.seconds), _time(one.seconds_left)]
        outcome = "cannot run" if cost.error else one.state
        table.add_row(printable(one.job.folder.name), outcome, *epochs, *cells, *times)
    console.print(table, soft_wrap=False)
    for reason in dict.fromkeys(one.cost.error for one in planned if one.cost.error):
        refused = [one.job.folder.name for one in planned if one.cost.error == reason]
        console.print(printable(f"{listed(refused)} cannot run: {reason}") + "\n")
    _print_totals(console, sweep, planned)


def _epochs(epochs: float | None, in_parts: bool) -> str:
    return "?" if epochs is None else f"{epochs:.1f}" if in_parts else f"{epochs:g}"


def _document(sweep: Sweep, planned: list[Planned], at_most: list[Job] | None) -> dict[str, Any]:
    """The plan for JSON. Sums are over the runs whose time is known."""
    return {
        "folder": str(relative(sweep.folder)),
        "seconds": sum(one.cost.seconds or 0 for one in planned),
        "seconds_left": sum(one.seconds_left or 0 for one in planned),
        "runs": [
            {
                "folder": str(relative(one.job.folder)),
                "overrides": one.job.overrides,
                "state": one.state,
                "epochs": one.cost.epochs,
                "parameters": one.cost.parameters,
                "multiply_adds": one.cost.multiply_adds,
                "peak_memory_bytes": one.cost.peak_memory_bytes,
                "seconds": one.cost.seconds,
                "seconds_left": one.seconds_left,
                "device": one.cost.device or None,
                "reason": one.cost.error,
            }
            for one in planned
        ],
        "at_most": None
        if at_most is None
        else dict(zip(("seconds", "seconds_left"), total_and_left(at_most), strict=True))
        | {"runs": len(at_most)},
    }


def total_and_left(jobs: list[Job]) -> tuple[float, float]:
    """The seconds that jobs take one after another, in total and from now on, as far as is known."""
    planned = _planned(jobs, lambda text: None)
    total = sum(one.cost.seconds or 0 for one in planned)
    return total, sum(one.seconds_left or 0 for one in planned)


def _planned(jobs: list[Job], on_progress: Callable[[str], object]) -> list[Planned]:
    """What each job costs: from its record if it is done, else an estimate."""
    records = [stored_record(job) for job in jobs]
    known = {
        job.identity: _recorded_cost(record)
        for job, record in zip(jobs, records, strict=True)
        if record.get("state") == "done"
    }
    unknown = [job for job in jobs if job.identity not in known]
    estimates = estimate([job.config for job in unknown], on_progress)
    known.update((job.identity, one) for job, one in zip(unknown, estimates, strict=True))
    return [
        Planned(job, _state(job, record), cost, _seconds_left(job, record, cost))
        for job, record in zip(jobs, records, strict=True)
        for cost in [_as_begun(known[job.identity], record)]
    ]


def _as_begun(cost: Estimate, record: Mapping[str, Any]) -> Estimate:
    """The cost with the epochs that a run has fixed: a budget in minutes is measured only once."""
    fixed = record.get("budget")
    return cost if fixed is None else replace(cost, epochs=fixed["epochs"])


def _recorded_cost(record: Mapping[str, Any]) -> Estimate:
    return Estimate(
        record.get("parameters"),
        record.get("multiply_adds"),
        record.get("peak_memory_bytes"),
        record.get("seconds"),
        seconds_per_epoch=None,
        epochs=run_length.trained_epochs(record),
        device="",
        error=None,
    )


def _state(job: Job, record: Mapping[str, Any]) -> str:
    """The state of a job according to its record; interrupted also if its process was killed."""
    state = record.get("state")
    if state == "running" and not is_locked(job.folder):
        return "interrupted"
    return str(state or "to do")


def _print_totals(console: Console, sweep: Sweep, planned: list[Planned]) -> None:
    done = sum(one.state == "done" for one in planned)
    left = [one.seconds_left or 0 for one in planned]
    console.print(
        f"{counted(len(sweep.jobs), 'run')} in {printable(relative(sweep.folder))}, {done} done"
    )
    total = sum(one.cost.seconds or 0 for one in planned)
    most = max((one.cost.peak_memory_bytes or 0 for one in planned), default=0)
    console.print(
        f"one run after another: {duration(total)} in total, {duration(sum(left))} left; "
        f"memory: {_memory(most)} at most"
    )
    for line in _at_once(sweep, [one.cost for one in planned], left):
        console.print(line)
    devices = ", ".join(dict.fromkeys(one.cost.device for one in planned if one.cost.device))
    if devices:
        console.print(f"estimated from a few training steps on {devices}")
        if any(one.cost.unpacked for one in planned):
            console.print("the images are not packed yet: their files were read, which takes longer")
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


def _seconds_left(job: Job, record: Mapping[str, Any], one: Estimate) -> float | None:
    """The time that the rest of a job takes; a run that has no checkpoint begins again."""
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
