"""One case: its random numbers, the process it runs in, and the fault it finds."""

from __future__ import annotations

import contextlib
import importlib
import os
import random
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

MEMORY = 4 << 30  # bytes that a case may use in addition to what its process has
TRACES = ("Traceback (most recent call last)", "--- Logging error ---", "Exception ignored in")


class Fault(Exception):
    """Something that a case has shown to be wrong."""


@dataclass(frozen=True)
class Ended:
    """How a process of a case ended.

    Attributes:
        status: its exit status; negative for a signal, None if it was killed after `timeout`.
        said: its standard output and error.
    """

    status: int | None
    said: str

    def without_traces(self) -> Ended:
        """This object; raises Fault if the process did not end in time, or printed a traceback."""
        if self.status is None:
            raise Fault(f"it did not end; its output: {self.said[-2000:]!r}")
        if any(trace in self.said for trace in TRACES):
            raise Fault(f"status {self.status}, and a traceback:\n{self.said[-4000:]}")
        return self


def random_numbers(seed: int, part: str, number: int) -> random.Random:
    """The random numbers of one case, independent of the cases before it."""
    return random.Random(f"{seed} {part} {number}")


def until(deadline: float, numbers: Iterator[int]) -> Iterator[int]:
    """The numbers of cases, until the deadline."""
    for number in numbers:
        if time.monotonic() > deadline:
            return
        yield number


def in_child(function: Callable[[], int | None], folder: Path, timeout: float = 240) -> Ended:
    """Call a function in a forked process, whose working folder is `folder`.

    A fork has all modules loaded: this saves most of the time of a run that takes a second.
    """
    folder.mkdir(parents=True, exist_ok=True)
    output = folder.with_name(f"{folder.name}.output")
    sys.stdout.flush()
    child = os.fork()
    if not child:
        _run_in_child(function, folder, output)
    deadline = time.monotonic() + timeout
    status: int | None = None
    while status is None and time.monotonic() < deadline:
        pid, code = os.waitpid(child, os.WNOHANG)
        if pid:
            status = os.waitstatus_to_exitcode(code)
        else:
            time.sleep(0.005)
    if status is None:
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return Ended(status, output.read_text(encoding="utf-8", errors="replace"))


def preload(function: Callable[[], int | None], folder: Path) -> Ended:
    """Call a function in a child process, and import here what it imported, for the next children."""
    names = folder.with_name(f"{folder.name}.modules")

    def note_modules() -> int | None:
        before = set(sys.modules)
        try:
            return function()
        finally:
            names.write_text("\n".join(sorted(set(sys.modules) - before)))

    ended = in_child(note_modules, folder)
    for name in names.read_text().split():
        with contextlib.suppress(Exception):  # some modules can be imported by other modules only
            importlib.import_module(name)
    return ended


def _run_in_child(function: Callable[[], int | None], folder: Path, output: Path) -> None:
    try:
        os.setsid()
        os.chdir(folder)
        written = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(written, 1)
        os.dup2(written, 2)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        status = function() or 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr, flush=True)
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 99
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
