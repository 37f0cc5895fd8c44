"""What a sweep says at its end: every job, how it ended, why, and how long it took."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from densenet_cli.duration import duration
from densenet_cli.summary import relative
from densenet_cli.sweep.jobs import Job, Sweep
from densenet_cli.sweep.standing import Standing, record

STYLES = {"done": "green", "done before": "green", "failed": "red", "interrupted": "yellow"}


def show(sweep: Sweep, state: Standing) -> None:
    """Print the table, why jobs failed, the sums, and what to type next."""
    console = Console(soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("job", overflow="fold")
    table.add_column("state", no_wrap=True)
    table.add_column("test error", justify="right", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    for job in sweep.jobs:
        outcome, error, seconds, _ = cells(job, state)
        table.add_row(Text(job.folder.name), Text(outcome, STYLES.get(outcome, "")), error, seconds)
    console.print(table, soft_wrap=False)
    for job in sweep.jobs:
        if why := cells(job, state)[3]:
            console.print(
                Text(f"{job.folder.name} failed: {why} (see {relative(job.folder)}/run.log)\n")
            )
    counts = [(state.count(name), name) for name in ("done", "done before", "failed", "interrupted")]
    left = len(sweep.jobs) - sum(number for number, _ in counts)
    words = [f"{number} {name}" for number, name in [*counts, (left, "not run")] if number]
    console.print(f"{len(sweep.jobs)} jobs: {', '.join(words)}", highlight=False)
    folder = relative(sweep.folder)
    if state.exit_status():
        console.print(f"go on with: densenet-run resume={folder}", highlight=False)
    console.print(f"compare by: densenet-results table {folder}", highlight=False)


def line(job: Job, state: Standing) -> str:
    """One job in a line, for where several run at once."""
    return "  ".join(part for part in (job.folder.name, *cells(job, state)) if part)


def cells(job: Job, state: Standing) -> tuple[str, str, str, str]:
    """State, test error, time and note of a job."""
    fields, outcome = record(job), state.of(job).state
    error = fields.get("results", {}).get("test_error")
    seconds = fields.get("seconds")
    note = fields.get("error") or ""
    if outcome == "to do":
        outcome = "not run"
    return (
        outcome,
        "" if error is None else f"{error:.2f} %",
        "" if seconds is None else duration(seconds),
        note.split("\n", maxsplit=1)[0] if outcome == "failed" else "",
    )
