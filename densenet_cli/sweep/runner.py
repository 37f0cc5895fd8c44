"""Runs the jobs of a sweep on this machine, beside other processes that run jobs of the same sweep."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from densenet_cli.files.lock import BUSY, FolderInUse, lock_folder
from densenet_cli.options import UserError
from densenet_cli.plain_text import counted
from densenet_cli.process.stop_signals import INTERRUPTED
from densenet_cli.process.streams import say
from densenet_cli.run.supervisor import PRUNED, Place, Worker, passing_on_signals
from densenet_cli.sweep import mps
from densenet_cli.sweep.jobs import Job
from densenet_cli.sweep.slots import shared_gpus
from densenet_cli.sweep.status import FINISHED, SweepStatus, stored_record

POLL_S = 2.0  # between two checks of a job that another process runs


class Runner:
    """Gives jobs to workers, one at each place, until all are finished, here or in other processes.

    Args:
        status: the states of the jobs; kept up to date.
        places: where the workers run.
        fail_fast: whether to stop at the first job that fails.
    """

    def __init__(self, status: SweepStatus, places: list[Place], fail_fast: bool) -> None:
        self.status, self.fail_fast = status, fail_fast
        self.workers = [Worker(place) for place in places]
        self.stopped = False
        self.signal_number = 0  # the signal that stopped the sweep
        self._choosing = threading.Lock()
        self._has_waited = False

    def run(self) -> None:
        """Run until no job is left, or the sweep is stopped."""
        with self._sharing_gpus(), passing_on_signals(self.workers, also=self._stop):
            if len(self.workers) == 1:
                self._work(self.workers[0])
                return
            with ThreadPoolExecutor(len(self.workers)) as pool:
                for future in [pool.submit(self._work, worker) for worker in self.workers]:
                    future.result()

    def _sharing_gpus(self) -> contextlib.AbstractContextManager[None]:
        """While entered, workers on one GPU compute at the same time, where that is possible."""
        places = [worker.place for worker in self.workers if worker.place.gpu_memory is not None]
        return mps.serving(len(places), shared_gpus(places)) if places else contextlib.nullcontext()

    def next_job(self) -> Job | None:
        """A job to run now; None when none is left. Waits for the jobs of other processes."""
        while not self.stopped:
            with self._choosing:
                for job in self.status.jobs:
                    if self.status[job] in ("to do", "elsewhere") and self._can_run(job):
                        self.status[job] = "running"
                        return job
            if not self.status.count("elsewhere"):
                return None
            self._say_that_it_waits()
            self._pause()
        return None

    def _say_that_it_waits(self) -> None:
        """Say so once, if other processes have runs of the sweep."""
        if not self._has_waited and (elsewhere := self.status.count("elsewhere")):
            self._has_waited = True
            say(f"waiting for {counted(elsewhere, 'run')} of another process")

    def _work(self, worker: Worker) -> None:
        with worker:
            while (job := self.next_job()) is not None:
                say(f"{self._position(job)} {job.folder.name}")
                try:
                    asked = self._asked_by(job)
                    exit_status = worker.run(job.folder, job.config, job.overrides, "either", asked)
                except (OSError, UserError) as error:
                    self.status.fail(job, str(error))
                    exit_status = 1
                self._finish(job, exit_status)

    def _pause(self) -> None:
        until = time.monotonic() + POLL_S
        while not self.stopped and time.monotonic() < until:
            time.sleep(0.1)

    def _stop(self, signal_number: int) -> None:
        self.signal_number, self.stopped = signal_number, True

    def _can_run(self, job: Job) -> bool:
        """Whether the job is still to be run, and no other process runs it."""
        try:
            job.folder.mkdir(parents=True, exist_ok=True)
            with lock_folder(job.folder):
                if (job.folder / "run.json").exists() and not stored_record(job):
                    # Another process was first to use this name for another run.
                    job.folder = job.folder.with_name(f"{job.folder.name}~{job.identity[:6]}")
                    return self._can_run(job)
                self.status.reread(job)
        except FolderInUse:
            self.status[job] = "elsewhere"
            return False
        except OSError as error:
            reason = f"{job.folder}: cannot be created or written: {error.strerror or error}"
            self.status.fail(job, reason)
        return self.status[job] not in FINISHED

    def _asked_by(self, job: Job) -> Callable[[int], bool] | None:
        """What a running job asks after each epoch, to learn whether it goes on; None: nothing."""
        return None

    def _finish(self, job: Job, exit_status: int) -> None:
        states = {
            0: "done",
            BUSY: "elsewhere",
            PRUNED: "pruned",
            **dict.fromkeys(INTERRUPTED, "interrupted"),
        }
        self.status[job] = states.get(exit_status, "failed")
        if exit_status in INTERRUPTED or (self.fail_fast and self.status[job] == "failed"):
            self.stopped = True
        if len(self.workers) > 1:
            say(f"{self._position(job)} {self.status.line(job)}")

    def _position(self, job: Job) -> str:
        return f"[{self.status.jobs.index(job) + 1}/{len(self.status.jobs)}]"
