"""The progress of a sweep as a live table, read from the records of its runs."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from densenet_cli.decisions.rounds import Standing
from densenet_cli.figures import terminal
from densenet_cli.options import UserError
from densenet_cli.record.metrics import read_metrics
from densenet_cli.record.sweep_file import UntilDecided, read_sweep
from densenet_cli.results import until_decided
from densenet_cli.results.columns import failure
from densenet_cli.results.records import (
    KILLED,
    PublishedFolder,
    Run,
    in_natural_order,
    read_run,
    read_runs,
)
from densenet_cli.results.settings import measured
from densenet_cli.units import duration

TO_DO = "to do"
UNREADABLE = "unreadable"
ORDER = ("running", "failed", KILLED, "interrupted", UNREADABLE, "done", "pruned", TO_DO)
STYLES = {
    "running": "cyan",
    "failed": "red",
    KILLED: "red",
    "interrupted": "yellow",
    "done": "green",
}
LONGEST = 1e9  # seconds, thirty years: for a longer time no date is shown
AROUND_ROWS = 6  # lines of the table beside its rows, and that of the runs that do not fit
RECENT_EPOCHS = 3  # the last ones: their mean time is the estimate for the next ones


@dataclass(frozen=True)
class Progress:
    """How far one run of a sweep has come.

    Args:
        name: its folder, below that of the sweep.
        status: one of ORDER.
        epoch: epochs completed; None before the first record.
        epochs: of the whole run.
        error: the newest test or validation error in percent.
        images_per_second: training speed.
        seconds: since it started, without pauses.
        seconds_left: an estimate; None if there is no basis for one.
        note: why it failed.
        setting: the identity of its setting, once it has a record.
        seed: its seed, once it has a record.
        shown_error: the error as the table shows it; of several labels it is the AUROC.
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
    setting: str = ""
    seed: int | None = None
    shown_error: str = ""


def watch(folder: Path, interval: float = 2.0, once: bool = False) -> None:
    """Show the runs below a folder until none is running or to do, or until Ctrl-C.

    Without a terminal the view is printed again each time that a run begins, ends or fails.

    Args:
        folder: of a sweep, or of several runs.
        interval: seconds between two updates.
        once: show the present state and return.

    Raises:
        UserError: if the folder does not exist, or has neither runs nor a sweep.
    """
    read = _Reader()
    runs = _some_progress(folder, read)
    console = terminal.console()
    if once:
        console.print(view(folder, runs))
        return
    with contextlib.suppress(KeyboardInterrupt):
        if console.is_terminal:
            _redraw(folder, runs, read, interval, console)
        else:
            _print_changes(folder, runs, read, interval, console)


def _redraw(
    folder: Path, runs: list[Progress], read: _Reader, interval: float, console: Console
) -> None:
    with Live(view(folder, runs, console.height), console=console, auto_refresh=False) as live:
        while _goes_on(folder, runs):
            time.sleep(interval)
            runs = read_progress(folder, read)
            live.update(view(folder, runs, console.height), refresh=True)


def _print_changes(
    folder: Path, runs: list[Progress], read: _Reader, interval: float, console: Console
) -> None:
    """For a file or another program: the whole view each time that a run changes its state."""
    shown = None
    while True:
        if (states := [(run.name, run.status) for run in runs]) != shown:
            console.print(view(folder, runs))
            shown = states
        if not _goes_on(folder, runs):
            return
        time.sleep(interval)
        runs = read_progress(folder, read)


def _goes_on(folder: Path, runs: Sequence[Progress]) -> bool:
    """Whether runs are running or to do, or are about to be added to a comparison that is open."""
    if any(run.status in ("running", TO_DO) for run in runs):
        return True
    if (fixed := read_sweep(folder).until_decided) is None:
        return False
    is_open = any(not one.ended for one in _standings(fixed, runs).values())
    return is_open and all(run.status == "done" and run.error is not None for run in runs)


class _Reader:
    """Reads runs; one that is finished is read again only when its record was written anew."""

    def __init__(self) -> None:
        self._finished: dict[Path, tuple[tuple[int, int], Run]] = {}

    def __call__(self, folder: Path) -> Run:
        """The run in a folder; see `read_run`."""
        try:
            status = (folder / "run.json").stat()
        except OSError:
            return read_run(folder)  # says what is wrong
        version = status.st_mtime_ns, status.st_ino
        if folder in self._finished and self._finished[folder][0] == version:
            return self._finished[folder][1]
        run = read_run(folder)
        if run.state == "done":
            self._finished[folder] = version, run
        return run


def read_progress(folder: Path, read: Callable[[Path], Run] = read_run) -> list[Progress]:
    """The runs below a folder: those with a record, and those that sweep.yaml lists."""
    recorded, unreadable = read_runs([folder], read)
    runs = [_progress(folder, run, time.time()) for run in recorded]
    known = {run.name for run in runs}
    for item in (item for item in unreadable if not isinstance(item, PublishedFolder)):
        name = os.path.relpath(item.path, folder).removesuffix("/run.json")
        known.add(name)
        runs.append(Progress(name, UNREADABLE, note=item.reason))
    runs += [Progress(name, TO_DO) for name in read_sweep(folder).jobs if name not in known]
    return sorted(runs, key=lambda run: (ORDER.index(run.status), in_natural_order(run.name)))


def document(folder: Path) -> dict[str, Any]:
    """The present state of the runs below a folder, for JSON.

    Raises:
        UserError: if the folder does not exist, or has neither runs nor a sweep.
    """
    runs = _some_progress(folder)
    fixed = read_sweep(folder).until_decided
    found = _standings(fixed, runs) if fixed else {}
    return {
        "folder": str(folder),
        "seconds_left": seconds_left(runs),
        "runs": [
            {
                "run": run.name,
                "state": run.status,
                "epoch": run.epoch,
                "epochs": run.epochs,
                "error_percent": run.error,
                "images_per_second": run.images_per_second,
                "seconds": run.seconds,
                "seconds_left": run.seconds_left,
                "reason": run.note or None,
            }
            for run in runs
        ],
        "comparisons": [
            {
                "setting": name,
                "ended": one.ended,
                "seeds": one.seeds,
                "verdict": one.decision.word if one.decision else None,
                "difference_points": one.decision.difference if one.decision else None,
                "low_points": one.decision.low if one.decision else None,
                "high_points": one.decision.high if one.decision else None,
            }
            for name, one in found.items()
        ],
    }


def _some_progress(folder: Path, read: Callable[[Path], Run] = read_run) -> list[Progress]:
    runs = read_progress(folder, read)
    if not runs:
        raise UserError(f"{folder}: no runs found; name the folder of a sweep")
    return runs


def view(folder: Path, runs: Sequence[Progress], height: int | None = None) -> Group:
    """A header with totals, and one row per run; of many runs as many as fit into `height` lines."""
    headings = ["run", "state", "epoch", "error %", "images/s", "time", "left"]
    headings += ["why"] if any(run.note for run in runs) else []
    lines = [f"{folder}: {summary(runs)}", *comparisons(folder, runs)]
    room = len(runs) if height is None else max(1, height - len(lines) - AROUND_ROWS)
    cells = (_cells(run)[: len(headings)] for run in runs[:room])
    table = terminal.table(headings, cells, text=("run", "state", "why"))
    more = [f"and {len(runs) - room:,} more"] if len(runs) > room else []
    return Group(*map(terminal.plain, lines), table, *map(terminal.plain, more))


def comparisons(folder: Path, runs: Sequence[Progress]) -> list[str]:
    """With seeds=until_decided: how many comparisons are open, and how each of them stands."""
    if (fixed := read_sweep(folder).until_decided) is None:
        return []
    found = _standings(fixed, runs)
    ended = sum(one.ended for one in found.values())
    lines = [f"compared with {fixed.baseline}: {len(found) - ended} open, {ended} ended"]
    return [*lines, *(f"  {name}: {one}" for name, one in found.items())]


def _standings(fixed: UntilDecided, runs: Sequence[Progress]) -> dict[str, Standing]:
    """How far the comparison of each setting but the baseline has come."""
    errors: dict[str, dict[int, float]] = {}
    for run in runs:
        if run.status == "done" and run.error is not None and run.seed is not None:
            errors.setdefault(run.setting, {})[run.seed] = run.error
    return until_decided.standing(fixed, errors)


def summary(runs: Sequence[Progress]) -> str:
    """Totals, and when all will be done: "12 runs: 1 running, 3 done, 8 to do; all done in ..."."""
    counts = Counter(run.status for run in runs)
    parts = [f"{counts[status]} {status}" for status in ORDER if counts[status]]
    text = f"{len(runs)} {'run' if len(runs) == 1 else 'runs'}: {', '.join(parts)}"
    left = seconds_left(runs)
    if left is None or left > LONGEST:
        return text
    moment = datetime.now() + timedelta(seconds=left)
    day = "" if moment.date() == datetime.now().date() else f"{moment:%Y-%m-%d} "
    return f"{text}; all done in about {duration(left)}, at {day}{moment:%H:%M}"


def seconds_left(runs: Sequence[Progress]) -> float | None:
    """An estimate of the time until all runs are done; None if there is no basis for one.

    It assumes that the number of runs at a time stays as it is, and that each run to do takes the mean
    time of those done or running.
    """
    running = [run for run in runs if run.status == "running"]
    to_do = sum(run.status == TO_DO for run in runs)
    left = [run.seconds_left for run in running]
    whole = [run.seconds for run in runs if run.status == "done" and run.seconds is not None]
    whole += [
        run.seconds + run.seconds_left
        for run in running
        if run.seconds is not None and run.seconds_left is not None
    ]
    known = [seconds for seconds in left if seconds is not None]
    if not running or len(known) < len(left) or (to_do and not whole):
        return None
    if not to_do:
        return max(known)
    return (sum(known) + to_do * sum(whole) / len(whole)) / len(running)


def _progress(folder: Path, run: Run, now: float) -> Progress:
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
    if error is None:
        error = last.get("validation_error", last.get("test_error"))
    return Progress(
        name=name,
        status=status,
        epoch=epoch,
        epochs=epochs,
        error=error,
        images_per_second=measured(run, "images_per_second") or last.get("images_per_second"),
        seconds=seconds or None,
        seconds_left=left,
        note=failure(run),
        setting=run.setting,
        seed=run.seed,
        shown_error="" if error is None else run.shown_error(error),
    )


def _rows(run: Run) -> list[dict[str, float | None]]:
    """The epochs of a run; none for one that is done, whose record has all that is shown."""
    if run.status == "done":
        return []
    try:
        return read_metrics(run.folder)
    except UserError:  # the record still has the epoch and the time
        return []


def _epoch_seconds(rows: Sequence[dict[str, float | None]]) -> float:
    recent = [row.get("seconds") or 0.0 for row in rows[-RECENT_EPOCHS:]]
    return sum(recent) / len(recent)


def _seconds_since_update(run: Run, now: float) -> float:
    updated = run.fields.get("updated")
    return max(0.0, now - datetime.fromisoformat(updated).timestamp()) if updated else 0.0


def _cells(run: Progress) -> list[str | Text]:
    return [
        run.name,
        Text(run.status, STYLES.get(run.status, "")),
        "" if run.epoch is None else f"{run.epoch}/{run.epochs}",
        run.shown_error,
        "" if run.images_per_second is None else f"{run.images_per_second:,.0f}",
        "" if run.seconds is None else duration(run.seconds),
        "" if run.seconds_left is None else duration(run.seconds_left),
        run.note,
    ]
