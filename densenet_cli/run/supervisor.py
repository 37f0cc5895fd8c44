"""Worker processes: given runs, supervised, and replaced when they die."""

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
from densenet_cli.record.run_record import Begin, RunRecord, now, remove_temporary_files

PATIENCE_S = 7.0  # from a signal to SIGKILL; schedulers allow ten seconds or more
POLL_S = 0.5  # between two checks whether a process still lives
GPU_MEMORY = "DENSENET_CLI_GPU_MEMORY"  # the environment variable that tells a worker its share
PRUNED = 76  # exit status of a run that its search ended early
LAST_S = 2.0  # for a process to exit, once a signal has stopped its run


@dataclass(frozen=True)
class Place:
    """The share of the machine that a worker process gets.

    Attributes:
        cores: the processor cores it may use; None for all.
        environment: environment variables, in addition to ours.
        log: the file that its output is appended to; None for our terminal.
        gpu_memory: bytes of a GPU that its tensors may take; None for all.
    """

    cores: frozenset[int] | None = None
    environment: dict[str, str] = field(default_factory=dict)
    log: Path | None = None
    gpu_memory: int | None = None


class Worker:
    """A process that executes runs, one after another; it is replaced if it dies.

    A run of several processes gets a worker of its own: Lightning starts the other processes by the
    command of the first one. If that were densenet-run --multirun, each would start the whole sweep.
    """

    def __init__(self, place: Place | None = None) -> None:
        self.place = place or Place()
        self._process: subprocess.Popen[str] | None = None
        self._answers: IO[str] | None = None
        self._signal = 0  # the last signal that was passed on

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(
        self,
        folder: Path,
        config: dict[str, Any],
        overrides: list[str],
        begin: Begin,
        goes_on: Callable[[int], bool] | None = None,
    ) -> int:
        """Let the process execute a run, and wait for it; see densenet_cli.run.execute.execute.

        Args:
            folder, config, overrides, begin: as for execute.
            goes_on: called with the number of completed epochs while the process waits for the answer;
                False ends the run. Not for runs of several processes.

        Returns:
            The exit status: 0 done, 1 failed, 75 locked by another process, PRUNED, or one of
            INTERRUPTED. If the process died, the run is recorded as failed; after a signal, as
            interrupted.
        """
        if self._signal:
            return 128 + self._signal
        run = {"folder": str(folder), "config": config, "overrides": overrides, "begin": begin}
        is_single = ranks.needs_worker(config["trainer"])
        if is_single:
            assert goes_on is None
            ended, status = self._run_in_new_process(run)
        else:
            ended, status = self._run_in_server(run | {"asks": goes_on is not None}, goes_on)
        if ended:
            return status
        if self._signal:
            _record_interruption(folder, config)
            return 128 + self._signal
        return _record_end(folder, config, overrides, begin, status)

    def signal(self, number: int) -> None:
        """Pass a signal on to the process, if there is one.

        The run ends by itself once its state is saved. If it does not end within PATIENCE_S, because a
        loader worker is stuck for example, it is killed with all its processes; after Ctrl-C and
        SIGUSR1, which come long before an end, only if another signal follows.
        """
        is_patient = number in (signal.SIGINT, signal.SIGUSR1) and not self._signal
        self._signal = number
        process = self._process  # another thread may be closing it
        if process is not None and process.poll() is None:
            process.send_signal(number)
            if not is_patient:
                killing = threading.Timer(PATIENCE_S, _kill, [process])
                killing.daemon = True
                killing.start()

    def close(self) -> None:
        """End the process, and all processes that it started."""
        process, answers, self._process, self._answers = self._process, self._answers, None, None
        if process is None:
            return
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()  # it ends by itself
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=LAST_S if self._signal else 10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if answers is not None:
            answers.close()

    def _run_in_server(
        self, run: dict[str, Any], goes_on: Callable[[int], bool] | None
    ) -> tuple[bool, int]:
        """Give a run to the process that waits for runs; whether it answered, and the exit status."""
        if self._process is None or self._process.poll() is not None:
            self.close()
            ours, theirs = os.pipe()
            self._start(["--serve", str(theirs)], pass_fds=(theirs,))
            os.close(theirs)
            self._answers = os.fdopen(ours)
        assert self._process is not None
        with contextlib.suppress(BrokenPipeError):
            self._tell(run)
            while "completed" in (answer := self._answer(self._process)):
                assert goes_on is not None
                try:
                    reply = goes_on(answer["completed"])
                except Exception:
                    self.close()  # it would take the next run for the answer
                    raise
                self._tell(reply)
            if answer:
                return True, answer["status"]
        status = self._process.wait()
        self.close()
        return False, status

    def _tell(self, message: Any) -> None:
        """Write a line to the process that waits for runs."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()

    def _answer(self, process: subprocess.Popen[str]) -> dict[str, int]:
        """What the process answers: {"completed": epochs}, which is a question, or {"status": number}.

        Empty if it died, even if its own child processes live.
        """
        assert self._answers is not None
        died = False
        while not select.select([self._answers], [], [], 0 if died else POLL_S)[0]:
            if died:
                return {}
            died = process.poll() is not None
        line = self._answers.readline()
        return json.loads(line) if line else {}

    def _run_in_new_process(self, run: dict[str, Any]) -> tuple[bool, int]:
        """Execute a run in a process of its own; whether it ended by itself, and its exit status."""
        self.close()
        process = self._start([json.dumps(run)])  # not a file, which would be left behind after a kill
        try:
            status = process.wait()
        finally:
            self.close()  # no process of the run outlives it
        return status >= 0 and status != ranks.NOT_LOADED, status

    def _start(self, arguments: list[str], pass_fds: tuple[int, ...] = ()) -> subprocess.Popen[str]:
        output = None if self.place.log is None else self.place.log.open("a", encoding="utf-8")
        environment = {**child.environment(), **self.place.environment}
        if self.place.gpu_memory is not None:
            environment[GPU_MEMORY] = str(self.place.gpu_memory)
        ranks.forget(ranks.RANKS, environment)  # set where a launcher plugin has started us
        # The worker inherits the mask, and unblocks the signals once it can handle them.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals())
        try:
            process = subprocess.Popen(
                child.command("densenet_cli.run.worker:main", *arguments),
                stdin=subprocess.PIPE,  # is closed when we die, which the worker notices
                stdout=output,
                stderr=None if output is None else subprocess.STDOUT,
                text=True,
                env=environment,
                pass_fds=pass_fds,
                start_new_session=True,  # so that Ctrl-C does not reach it directly
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        self._process = process
        if self._signal:  # a signal came while it was started
            self.signal(self._signal)
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
    """Within, the stop signals are passed on to the workers, and their number to `also`."""

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
    """Execute one run in a worker process, and wait for it; the exit status."""
    with Worker() as worker, passing_on_signals([worker]):
        return worker.run(folder, config, overrides, begin)


def _kill(process: subprocess.Popen[str]) -> None:
    """Kill a process that did not end, and all processes that it started."""
    with contextlib.suppress(ProcessLookupError):  # it has just ended
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def _record_interruption(folder: Path, config: dict[str, Any]) -> None:
    """Record that a run was killed because it did not end after a signal."""
    with contextlib.suppress(FolderInUse), lock_folder(folder):
        if not (folder / "run.json").exists():
            return
        record = RunRecord.read(folder)
        if record.identity != identity(config) or record.fields["state"] != "running":
            return
        record.update(state="interrupted", ended=now())
    print(
        f"densenet-run: {folder} did not end within {PATIENCE_S:.0f} s of the signal and was killed; "
        "it resumes from its last checkpoint",
        file=sys.stderr,
    )


def _record_end(
    folder: Path, config: dict[str, Any], overrides: list[str], begin: Begin, status: int
) -> int:
    """Record a run whose process died; the exit status."""
    message = ranks.take_message(folder)
    if message is None and status < 0:
        name = signal.Signals(-status).name
        message = f"the run's process was killed ({name}); out of memory?"
    message = message or f"the run's process ended with status {status}"
    try:
        with lock_folder(folder):
            remove_temporary_files(folder)
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
    if (folder / "run.log").exists():
        message = f"{message} (see {folder / 'run.log'})"
    print(printable(f"densenet-run: {message}", keep="\n"), file=sys.stderr)
    return 1
