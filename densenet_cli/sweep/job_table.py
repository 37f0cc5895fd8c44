"""What a sweep says at its end: every job, how it ended, why, and how long it took."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from densenet_cli.config.trust import Trust, words_of_trust
from densenet_cli.plain_text import printable
from densenet_cli.run.summary import relative
from densenet_cli.sweep.jobs import Job
from densenet_cli.sweep.standing import FINISHED, Standing, record
from densenet_cli.units import duration

STYLES = {"done": "green", "done before": "green", "failed": "red", "interrupted": "yellow"}


def output() -> Console:
    """The terminal; or a file, on the way to which nothing is folded. What is printed is no markup."""
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = 1000
    return console


def show(folder: Path, state: Standing, search_path: Sequence[str]) -> None:
    """Print all jobs, why some failed, the sums, and what to type next.

    Args:
        folder: the sweep's.
        state: how its jobs stand.
        search_path: hydra.searchpath, of a typed --config-dir.
    """
    console = output()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("job", overflow="fold")
    table.add_column("state", no_wrap=True)
    table.add_column("test error", justify="right", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    for job in state.jobs:
        outcome, error, seconds = _cells(job, state)
        table.add_row(
            printable(job.folder.name), Text(outcome, STYLES.get(outcome, "")), error, seconds
        )
    console.print(table, soft_wrap=False)
    for reason, names in _failures(state).items():
        console.print(printable(f"{' '.join(names)} failed: {reason}"))
    counts = {name: state.count(name) for name in FINISHED}
    counts["not run"] = len(state.jobs) - sum(counts.values())
    words = ", ".join(f"{number} {name}" for name, number in counts.items() if number)
    console.print(f"{len(state.jobs)} jobs: {words}")
    path = printable(relative(folder))
    if any(state[job] == "failed" for job in state.jobs):
        console.print(f"see run.log in {path}/<job>")
    if state.exit_status():
        console.print(f"go on with: {_again(path, state, search_path)}")
    console.print("compare by: " + shlex.join(["densenet-results", "table", path]))


def _again(path: str, state: Standing, search_path: Sequence[str]) -> str:
    """The command that goes on with a sweep, as resume= must be typed for it."""
    words, trust = [f"resume={path}"], Trust()
    for place in search_path:
        own = place.removeprefix("file://")
        words.append(f"--config-dir={printable(relative(Path(own)))}")
        trust = Trust.of((), (), own)
    for job in state.jobs:
        words += [word for word in words_of_trust(job.config, trust) if word not in words]
    return shlex.join(["densenet-run", *words])


def _failures(state: Standing) -> dict[str, list[str]]:
    """Why jobs failed, and which did for that reason."""
    names: dict[str, list[str]] = {}
    for job in state.jobs:
        if state[job] == "failed":
            names.setdefault(state.reason(job).split("\n")[0], []).append(job.folder.name)
    return names


def line(job: Job, state: Standing) -> str:
    """One job in a line, for where several run at once."""
    return "  ".join(part for part in (job.folder.name, *_cells(job, state)) if part)


def _cells(job: Job, state: Standing) -> tuple[str, str, str]:
    """State, test error and time of a job."""
    fields, outcome = record(job), state[job]
    error, seconds = fields.get("results", {}).get("test_error"), fields.get("seconds")
    return (
        outcome if outcome in FINISHED else "not run",
        "" if error is None else f"{error:.2f} %",
        "" if seconds is None else duration(seconds),
    )
