"""Runs the jobs of a sweep on this machine, beside other processes that do the same."""

from __future__ import annotations

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from densenet_cli.files.lock import BUSY, FolderInUse, lock_folder
from densenet_cli.options import UserError
from densenet_cli.plain_text import printable
from densenet_cli.process.stop_signals import INTERRUPTED
from densenet_cli.run.supervisor import Place, Worker, passing_on_signals
from densenet_cli.sweep import job_table as table
from densenet_cli.sweep.jobs import Job
from densenet_cli.sweep.standing import FINISHED, Standing, record

POLL_S = 2.0  # between looks at a job that another process runs


class Runner:
    """Gives the jobs out to workers, one at each place, until all are finished, here or elsewhere.

    Args:
        state: how the jobs stand; kept up to date.
        places: where the workers run.
        fail_fast: whether to stop at the first job that fails.
    """

    def __init__(self, state: Standing, places: list[Place], fail_fast: bool) -> None:
        self.state, self.fail_fast = state, fail_fast
        self.workers = [Worker(place) for place in places]
        self.stopped = False
        self.signalled = 0  # by which signal
        self._choosing = threading.Lock()
        self._has_waited = False

    def run(self) -> None:
        """Run until no job is left, or the sweep is stopped."""
        with passing_on_signals(self.workers, also=self._stop):
            if len(self.workers) == 1:
                self._work(self.workers[0])
                return
            with ThreadPoolExecutor(len(self.workers)) as pool:
                for ended in [pool.submit(self._work, worker) for worker in self.workers]:
                    ended.result()

    def _work(self, worker: Worker) -> None:
        with worker:
            while (job := self.next_job()) is not None:
                say(f"{self._number(job)} {job.folder.name}")
                try:
                    status = worker.run(job.folder, job.config, job.words, "either")
                except (OSError, UserError) as error:
                    self.state.fail(job, str(error))
                    status = 1
                self._settle(job, status)

    def next_job(self) -> Job | None:
        """A job to run now; None when none is left. Waits for those that run elsewhere."""
        while not self.stopped:
            with self._choosing:
                for job in self.state.jobs:
                    if self.state[job] in ("to do", "elsewhere") and self._is_ours(job):
                        self.state[job] = "running"
                        return job
            if not (elsewhere := self.state.count("elsewhere")):
                return None
            if not self._has_waited:
                self._has_waited = True
                say(f"waiting for {elsewhere} of the jobs, which another process runs")
            self._pause()
        return None

    def _pause(self) -> None:
        until = time.monotonic() + POLL_S
        while not self.stopped and time.monotonic() < until:
            time.sleep(0.1)

    def _stop(self, signal: int) -> None:
        self.signalled, self.stopped = signal, True

    def _is_ours(self, job: Job) -> bool:
        """Whether the job is still to be run, and by nobody else."""
        try:
            job.folder.mkdir(parents=True, exist_ok=True)
            with lock_folder(job.folder):
                if (job.folder / "run.json").exists() and not record(job):  # another process was first
                    job.folder = job.folder.with_name(f"{job.folder.name}~{job.identity[:6]}")
                    return self._is_ours(job)
                self.state.look(job)
        except FolderInUse:
            self.state[job] = "elsewhere"
            return False
        except OSError as error:
            self.state.fail(job, f"{job.folder}: cannot be made or written: {error.strerror or error}")
        return self.state[job] not in FINISHED

    def _settle(self, job: Job, status: int) -> None:
        states = {0: "done", BUSY: "elsewhere", **dict.fromkeys(INTERRUPTED, "interrupted")}
        self.state[job] = states.get(status, "failed")
        if status in INTERRUPTED or (self.fail_fast and self.state[job] == "failed"):
            self.stopped = True
        if len(self.workers) > 1:
            say(f"{self._number(job)} {table.line(job, self.state)}")

    def _number(self, job: Job) -> str:
        return f"[{self.state.jobs.index(job) + 1}/{len(self.state.jobs)}]"


def say(message: str) -> None:
    """Show how the sweep goes on, on the terminal."""
    print(f"densenet-run: {printable(message)}", file=sys.stderr, flush=True)
