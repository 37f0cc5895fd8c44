"""How the jobs of a sweep stand: what was done before, what this command has done, what is left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from densenet_cli.options import UserError
from densenet_cli.record import RunRecord, now
from densenet_cli.sweep.jobs import Job


@dataclass
class Outcome:
    """How a job stands for this command.

    Attributes:
        state: to do, running, elsewhere (another process runs it), done, done before, failed or
            interrupted.
    """

    state: str = "to do"

    @property
    def finished(self) -> bool:
        """Whether this command has nothing left to do for the job."""
        return self.state in ("done", "done before", "failed", "interrupted")


class Standing:
    """How all jobs of a sweep stand, as this command has found or made them."""

    def __init__(self, of_jobs: list[Job]) -> None:
        self.began = now()
        self.jobs = of_jobs
        self._outcomes = [Outcome() for _ in of_jobs]
        for job in of_jobs:
            if state_on_disk(job) == "done":
                self.of(job).state = "done before"

    def of(self, job: Job) -> Outcome:
        """The job's outcome so far."""
        return self._outcomes[self.jobs.index(job)]

    def count(self, *states: str) -> int:
        """How many jobs are in one of these states."""
        return sum(outcome.state in states for outcome in self._outcomes)

    def already(self) -> str:
        """A half-sentence on the jobs that were done before."""
        done = self.count("done before")
        return f", {done} of them done already" if done else ""

    def look(self, job: Job) -> None:
        """Note what the record of a job says that is finished, by whichever process."""
        fields = record(job)
        if fields.get("state") == "done":
            self.of(job).state = "done"
        elif fields.get("state") == "failed" and (fields.get("ended") or "") >= self.began:
            self.of(job).state = "failed"

    def exit_status(self) -> int:
        """0 if all is done, 130 after an interruption, else 1."""
        if self.count("interrupted"):
            return 130
        return 0 if self.count("done", "done before") == len(self.jobs) else 1


def record(job: Job) -> dict[str, Any]:
    """What run.json holds of a job; nothing if there is none that can be read."""
    try:
        return RunRecord.read(job.folder).fields
    except UserError:
        return {}


def state_on_disk(job: Job) -> str | None:
    """The state that the job's record names."""
    return record(job).get("state")
