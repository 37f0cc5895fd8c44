"""How the jobs of a sweep stand: what was done before, what this command has done, what is left."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from densenet_cli.options import UserError
from densenet_cli.record.run_record import RunRecord
from densenet_cli.sweep.jobs import Job

FINISHED = ("done", "done before", "failed", "interrupted")  # nothing left to do for this command


class Standing:
    """The state of each job, as this command has found or made it.

    States: to do, running (here), elsewhere (another process runs it), and those of FINISHED.
    """

    def __init__(self, jobs: Iterable[Job]) -> None:
        self.jobs: list[Job] = []
        self._found: dict[str, int | None] = {}  # when each record was written that was there before
        self._states: dict[str, str] = {}
        self._reasons: dict[str, str] = {}
        for job in jobs:
            self.add(job)

    def __getitem__(self, job: Job) -> str:
        return self._states[job.identity]

    def __setitem__(self, job: Job, state: str) -> None:
        self._states[job.identity] = state

    def fail(self, job: Job, reason: str) -> None:
        """Note a failure that the job's record cannot tell of."""
        self[job] = "failed"
        self._reasons[job.identity] = reason

    def reason(self, job: Job) -> str:
        """Why a job failed."""
        return self._reasons.get(job.identity) or record(job).get("error") or _untold(job)

    def add(self, job: Job) -> None:
        """Take in one more job; nothing happens if it is known."""
        if job.identity not in self._states:
            self.jobs.append(job)
            self._found[job.identity] = _written(job)
            self[job] = "done before" if record(job).get("state") == "done" else "to do"

    def left(self) -> list[Job]:
        """The jobs that are not finished."""
        return [job for job in self.jobs if self[job] not in FINISHED]

    def count(self, *states: str) -> int:
        """How many jobs are in one of these states."""
        return sum(state in states for state in self._states.values())

    def look(self, job: Job) -> None:
        """Note what the job's record says: another process may have finished it meanwhile."""
        state = record(job).get("state")
        # What stood there before is tried again. Times in records, to the second, do not tell.
        is_new = _written(job) != self._found[job.identity]
        if state == "done" or (state in ("failed", "interrupted") and is_new):
            self[job] = state

    def exit_status(self) -> int:
        """0 if all is done, 130 after an interruption, else 1."""
        if self.count("interrupted"):
            return 130
        return 0 if self.count("done", "done before") == len(self.jobs) else 1


def _untold(job: Job) -> str:
    """Why a job failed whose record does not tell."""
    if not job.folder.is_dir():
        return "its folder was deleted or moved while it ran"
    if record(job).get("state") == "running":
        return "it broke off and could not note why in run.json, which still says that it is running"
    return "it could not begin, or its record cannot be read"


def _written(job: Job) -> int | None:
    """When a job's record was last written, in nanoseconds; None if there is none."""
    try:
        return (job.folder / "run.json").stat().st_mtime_ns
    except OSError:
        return None


def record(job: Job) -> dict[str, Any]:
    """What run.json holds of this very job; nothing if there is none that can be read."""
    try:
        found = RunRecord.read(job.folder)
        return found.fields if found.identity == job.identity else {}
    except UserError:
        return {}
