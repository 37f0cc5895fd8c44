"""The processes that runs have to themselves: told what to run, watched, and outlived."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, Any

from densenet_cli.files.lock import BUSY, FolderInUse, lock_folder
from densenet_cli.plain_text import printable
from densenet_cli.process import child, ranks
from densenet_cli.process.stop_signals import stop_signals
from densenet_cli.record.identity import identity
from densenet_cli.record.run_record import Begin, RunRecord, now, remove_partials

PATIENCE_S = 7.0  # between a signal that ends a run and a kill; schedulers give ten seconds or more
LOOK_S = 0.5  # between two looks whether a process lives that we wait for
LAST_S = 2.0  # for a process whose run is over, where the same signal came


@dataclass(frozen=True)
class Place:
    """Where a process runs: its share of the machine.

    Attributes:
        cores: the processor cores it may use; None for all.
        environment: variables added to ours.
        log: the file that takes what it prints; None for our terminal.
    """

    cores: frozenset[int] | None = None
    environment: dict[str, str] = field(default_factory=dict)
    log: Path | None = None


class Worker:
    """A process that runs jobs, one after another; a new one follows it if it dies.

    It never sees Hydra. Lightning starts the further processes of a run by typing the first one's
    command again: with Hydra in that command each of them would start the whole sweep again. So a run
    of several processes gets a worker for itself, whose command can be typed again.
    """

    def __init__(self, place: Place | None = None) -> None:
        self.place = place or Place()
        self._process: subprocess.Popen[str] | None = None
        self._answers: IO[str] | None = None
        self._told = 0  # the signal that was passed on

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, folder: Path, config: dict[str, Any], overrides: list[str], begin: Begin) -> int:
        """Execute a run, and wait for it; see densenet_cli.run.execute.execute.

        Returns:
            The exit status: 0 done, 1 failed, 75 held by another process, or one of INTERRUPTED. A
            run whose process died is recorded as failed; as interrupted if it was told to end.
        """
        if self._told:
            return 128 + self._told
        job = {"folder": str(folder), "config": config, "overrides": overrides, "begin": begin}
        alone = ranks.needs_worker(config["trainer"])
        answered, status = self._run_alone(job) if alone else self._serve(job)
        if answered:
            return status
        if self._told:
            _record_interruption(folder, config)
            return 128 + self._told
        return _record_end(folder, config, overrides, begin, status)

    def signal(self, number: int) -> None:
        """Pass a signal on to the process, if there is one.

        A run ends by itself once its step is done and saved. If it does not within PATIENCE_S, as
        when a loader worker is stuck, it is killed with all that it started; after Ctrl-C only if
        that is typed once more.
        """
        is_patient = number == signal.SIGINT and not self._told
        self._told = number
        process = self._process  # another thread may be closing it
        if process is not None and process.poll() is None:
            process.send_signal(number)
            if not is_patient:
                killing = threading.Timer(PATIENCE_S, _kill, [process])
                killing.daemon = True
                killing.start()

    def close(self) -> None:
        """End the process, and all that it started."""
        process, answers, self._process, self._answers = self._process, self._answers, None, None
        if process is None:
            return
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()  # it ends by itself
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=LAST_S if self._told else 10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if answers is not None:
            answers.close()

    def _serve(self, job: dict[str, Any]) -> tuple[bool, int]:
        """Give the job to the process that waits for one; whether it answered, and its status."""
        if self._process is None or self._process.poll() is not None:
            self.close()
            ours, theirs = os.pipe()
            self._start(["--serve", str(theirs)], pass_fds=(theirs,))
            os.close(theirs)
            self._answers = os.fdopen(ours)
        assert self._process is not None
        assert self._process.stdin is not None
        answer = ""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
            answer = self._answer(self._process)
        if answer:
            return True, int(answer)
        status = self._process.wait()
        self.close()
        return False, status

    def _answer(self, process: subprocess.Popen[str]) -> str:
        """The line that the process answers; empty if it died, even if one that it started lives."""
        assert self._answers is not None
        died = False
        while not select.select([self._answers], [], [], 0 if died else LOOK_S)[0]:
            if died:
                return ""
            died = process.poll() is not None
        return self._answers.readline()

    def _run_alone(self, job: dict[str, Any]) -> tuple[bool, int]:
        """Run the job in a process of its own; whether that ended by itself, and its status."""
        self.close()
        process = self._start([json.dumps(job)])  # no file, which a kill would leave
        try:
            status = process.wait()
        finally:
            self.close()  # no process of the run outlives it
        return status >= 0 and status != ranks.NOT_LOADED, status

    def _start(self, words: list[str], pass_fds: tuple[int, ...] = ()) -> subprocess.Popen[str]:
        output = None if self.place.log is None else self.place.log.open("a", encoding="utf-8")
        environment = {**child.environment(), **self.place.environment}
        ranks.forget(ranks.RANKS, environment)  # one that a plugin's launcher starts may have some
        # The worker inherits this, and unblocks them once it can obey.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals())
        try:
            process = subprocess.Popen(
                child.command("densenet_cli.run.worker:main", *words),
                stdin=subprocess.PIPE,  # closes when we die, which tells the worker
                stdout=output,
                stderr=None if output is None else subprocess.STDOUT,
                text=True,
                env=environment,
                pass_fds=pass_fds,
                start_new_session=True,  # so that only the first of its processes is told of Ctrl-C
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        self._process = process
        if self._told:  # while it was started
            self.signal(self._told)
        if output is not None:
            output.close()
        if self.place.cores is not None and hasattr(os, "sched_setaffinity"):
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(process.pid, self.place.cores)
        return process


@contextlib.contextmanager
def passing_on_signals(
    workers: list[Worker], also: Callable[[int], Any] = lambda number: None
) -> Iterator[None]:
    """Within, Ctrl-C, SIGTERM and SIGHUP go to the workers, and `also` is called with their number."""

    def forward(number: int, frame: FrameType | None) -> None:
        also(number)
        for worker in workers:
            worker.signal(number)

    before = {number: signal.signal(number, forward) for number in stop_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def supervise(folder: Path, config: dict[str, Any], overrides: list[str], begin: Begin) -> int:
    """Execute one run in a process of its own, and wait for it; the exit status."""
    with Worker() as worker, passing_on_signals([worker]):
        return worker.run(folder, config, overrides, begin)


def _kill(process: subprocess.Popen[str]) -> None:
    """End a process that did not obey, and all that it started."""
    with contextlib.suppress(ProcessLookupError):  # it ended at this very moment
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def _record_interruption(folder: Path, config: dict[str, Any]) -> None:
    """Record that a run was killed since it did not end when it was told to."""
    with contextlib.suppress(FolderInUse), lock_folder(folder):
        if not (folder / "run.json").exists():
            return
        record = RunRecord.read(folder)
        if record.identity != identity(config) or record.fields["state"] != "running":
            return
        record.update(state="interrupted", ended=now())
    print(
        f"densenet-run: {folder} did not end within {PATIENCE_S:.0f} s of the signal and was killed; "
        "it goes on from its last checkpoint",
        file=sys.stderr,
    )


def _record_end(
    folder: Path, config: dict[str, Any], overrides: list[str], begin: Begin, status: int
) -> int:
    """Record that a run's first process ended before the run did; the exit status."""
    message = ranks.take_message(folder)
    if message is None and status < 0:
        name = signal.Signals(-status).name
        message = f"the run's process was killed ({name}); out of memory?"
    message = message or f"the run's process ended with status {status}"
    try:
        with lock_folder(folder):
            remove_partials(folder)
            if not (folder / "run.json").exists():
                RunRecord.create(folder, config, overrides)
            record = RunRecord.read(folder)
            if begin != "resume" and record.identity != identity(config):
                return 1
            if record.fields["state"] == "done":
                return 0
            record.update(state="failed", error=message, ended=now())
    except FolderInUse:
        return BUSY
    if (folder / "run.log").exists():  # else it did not come so far
        message = f"{message} (see {folder / 'run.log'})"
    print(printable(f"densenet-run: {message}", keep="\n"), file=sys.stderr)
    return 1
