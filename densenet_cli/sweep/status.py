"""The state of each job of a sweep, and the table of them all that a sweep prints at its end."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from densenet_cli import units
from densenet_cli.config.trust import Trust, trust_override
from densenet_cli.options import UserError
from densenet_cli.plain_text import counted, first_line, printable
from densenet_cli.record.run_record import RunRecord, reported_checkpoint
from densenet_cli.run.summary import relative
from densenet_cli.sweep.jobs import Job
from densenet_cli.units import duration

FINISHED = (
    "done",
    "done before",
    "failed",
    "interrupted",
    "pruned",
)  # this command does nothing more for these
NAMED = 3  # runs with one reason of failure
STYLES = {"done": "green", "done before": "green", "failed": "red", "interrupted": "yellow"}


class SweepStatus:
    """The state of each job, as this command has found or made it.

    The states are: to do, running (in this command), elsewhere (another process runs it), and those of
    FINISHED.
    """

    def __init__(self, jobs: Iterable[Job]) -> None:
        self.jobs: list[Job] = []
        self._written_before: dict[str, int | None] = {}  # when the record found at first was written
        self._states: dict[str, str] = {}
        self._reasons: dict[str, str] = {}
        for job in jobs:
            self.add(job)

    def __getitem__(self, job: Job) -> str:
        return self._states[job.identity]

    def __setitem__(self, job: Job, state: str) -> None:
        self._states[job.identity] = state

    def add(self, job: Job) -> None:
        """Add a job, unless it is known."""
        if job.identity not in self._states:
            self.jobs.append(job)
            self._written_before[job.identity] = _written(job)
            found = {"done": "done before", "pruned": "pruned"}
            self[job] = found.get(stored_record(job).get("state", ""), "to do")

    def fail(self, job: Job, reason: str) -> None:
        """Note a failure that is not in the job's record."""
        self[job] = "failed"
        self._reasons[job.identity] = reason

    def reason(self, job: Job) -> str:
        """Why a job failed."""
        return self._reasons.get(job.identity) or stored_record(job).get("error") or _unrecorded(job)

    def unfinished(self) -> list[Job]:
        """The jobs that are not in a state of FINISHED."""
        return [job for job in self.jobs if self[job] not in FINISHED]

    def count(self, *states: str) -> int:
        """How many jobs are in one of these states."""
        return sum(state in states for state in self._states.values())

    def reread(self, job: Job) -> None:
        """Take the state from the job's record, which another process may have written meanwhile.

        A failure or interruption that was recorded before this command began does not count: the job is
        run again.
        """
        state = stored_record(job).get("state")
        # The times within records have a resolution of a second, which is too coarse.
        is_new = _written(job) != self._written_before[job.identity]
        if state in ("done", "pruned") or (state in ("failed", "interrupted") and is_new):
            self[job] = state

    def exit_status(self) -> int:
        """0 if all jobs are done or pruned, 130 if one was interrupted, else 1."""
        if self.count("interrupted"):
            return 130
        return 0 if self.count("done", "done before", "pruned") == len(self.jobs) else 1

    def line(self, job: Job) -> str:
        """One job in a line, for sweeps that run several jobs at once."""
        state, _, error, time = self._cells(job)
        return "  ".join(part for part in (job.folder.name, state, error, time) if part)

    def print_table(self, folder: Path, search_path: Sequence[str]) -> None:
        """Print all jobs, why some failed, how many are in each state, and what to type next.

        Args:
            folder: the sweep's.
            search_path: hydra.searchpath, which contains a typed --config-dir.
        """
        console = output_console()
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("run", overflow="fold")
        table.add_column("state", no_wrap=True)
        cells = [self._cells(job) for job in self.jobs]
        is_held_out = any(held_out for _, held_out, _, _ in cells)
        if is_held_out:  # by which a search chooses
            table.add_column("validation error", justify="right", no_wrap=True)
        table.add_column("test error", justify="right", no_wrap=True)
        table.add_column("time", justify="right", no_wrap=True)
        for job, (state, held_out, error, time) in zip(self.jobs, cells, strict=True):
            numbers = (held_out, error, time) if is_held_out else (error, time)
            table.add_row(printable(job.folder.name), Text(state, STYLES.get(state, "")), *numbers)
        console.print(table, soft_wrap=False)
        for reason, names in self._failures().items():
            console.print(printable(f"{listed(names)} failed: {reason}"))
        counts = {state: self.count(state) for state in FINISHED}
        counts["not run"] = len(self.jobs) - sum(counts.values())
        states = ", ".join(f"{number} {state}" for state, number in counts.items() if number)
        console.print(f"{counted(len(self.jobs), 'run')}: {states}")
        path = printable(relative(folder))
        if self.count("failed"):
            console.print(f"for details of a failure see run.log in {path}/<run>")
        if self.exit_status():
            console.print(f"resume with: {self._resume_command(path, search_path)}")
        console.print("compare with: " + shlex.join(["densenet-results", "table", path]))

    def _cells(self, job: Job) -> tuple[str, str, str, str]:
        """State, validation error, test error and time of a job."""
        fields, state = stored_record(job), self[job]
        shown = state if state in FINISHED else "not run"
        if state == "pruned":
            shown += f" after {fields.get('epoch', '?')}/{fields.get('epochs', '?')} epochs"
        seconds = fields.get("seconds")
        held_out = f"validation_error_{reported_checkpoint(fields)}" if fields else ""
        return (
            shown,
            _error(fields, held_out),
            _error(fields, "test_error"),
            "" if seconds is None else duration(seconds),
        )

    def _failures(self) -> dict[str, list[str]]:
        """The reasons of failures, each with the names of the jobs that failed for it."""
        names: dict[str, list[str]] = {}
        for job in self.jobs:
            if self[job] == "failed":
                names.setdefault(first_line(self.reason(job)), []).append(job.folder.name)
        return names

    def _resume_command(self, path: str, search_path: Sequence[str]) -> str:
        """The command that resumes the sweep, with the flags and trust= that resume= needs."""
        words, trust = [f"resume={path}"], Trust()
        for place in search_path:
            own = place.removeprefix("file://")
            words.append(f"--config-dir={printable(relative(Path(own)))}")
            trust = Trust.of((), (), own)
        for job in self.jobs:
            words += [word for word in trust_override(job.config, trust) if word not in words]
        return shlex.join(["densenet-run", *words])


def stored_record(job: Job) -> dict[str, Any]:
    """The content of run.json if it is a record of this job; else an empty dictionary."""
    try:
        record = RunRecord.read(job.folder)
        return record.fields if record.identity == job.identity else {}
    except UserError:
        return {}


def listed(names: Sequence[str]) -> str:
    """The names of jobs; of many, only the first ones."""
    more = len(names) - NAMED
    return " ".join(names) if more < 2 else f"{' '.join(names[:NAMED])} and {more} more"


def output_console() -> Console:
    """Standard output; lines are not wrapped in a file, and names are not read as rich's markup."""
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = 1000
    return console


def is_of_labels(fields: Mapping[str, Any]) -> bool:
    """Whether the errors of a record are 100 % minus the mean AUROC, of several labels an image."""
    return bool((fields.get("data") or {}).get("several_labels", False))


def _error(fields: dict[str, Any], name: str) -> str:
    """One of the errors among a record's results; of several labels as what it stands for, AUROC."""
    error = fields.get("results", {}).get(name)
    if error is None:
        return ""
    return f"AUROC {units.auroc(error)}" if is_of_labels(fields) else f"{error:.2f} %"


def _unrecorded(job: Job) -> str:
    """Why a job failed whose record does not give the reason."""
    if not job.folder.is_dir():
        return "its folder was deleted or moved during the run"
    if stored_record(job).get("state") == "running":
        return "it stopped without recording why; run.json still has the state running"
    return "it could not start, or its record cannot be read"


def _written(job: Job) -> int | None:
    """When a job's record was last written, in nanoseconds; None if there is none."""
    try:
        return (job.folder / "run.json").stat().st_mtime_ns
    except OSError:
        return None
