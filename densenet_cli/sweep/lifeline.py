"""A line from a command to the jobs that a launcher runs for it on this machine: they end with it.

The command listens at a socket that has a name but no file (Linux). Each job connects and waits; the
system cuts the line when the command stops listening, or dies, however it dies.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from densenet_cli.process.stop_signals import stop_signals
from densenet_cli.run.supervisor import LAST_S, PATIENCE_S

NAME = "DENSENET_CLI_LIFELINE"  # the environment variable that tells jobs where to connect
MANY = 4096  # jobs at once; the system may have a lower limit


class Stopped(BaseException):
    """The command was told by a signal to end; its jobs have ended, or had the time to."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(number)


class CutOff(Exception):
    """The command that started the job is no more, or was told to end."""


@contextlib.contextmanager
def held() -> Iterator[None]:
    """In the command: hold the line. A signal cuts it, lets the jobs end, and then raises Stopped."""
    if sys.platform != "linux":
        yield
        return
    name = f"densenet-cli-{os.getpid()}-{secrets.token_hex(8)}"
    jobs: list[socket.socket] = []
    with socket.socket(socket.AF_UNIX) as line:
        line.bind(f"\0{name}")
        line.listen(MANY)
        threading.Thread(target=_accept, args=(line, jobs), daemon=True).start()

        def cut(number: int, frame: FrameType | None) -> None:
            if NAME in os.environ:
                del os.environ[NAME]
                line.shutdown(socket.SHUT_RDWR)
                _end(jobs)
            raise Stopped(number)

        before = {number: signal.signal(number, cut) for number in stop_signals()}
        os.environ[NAME] = f"{_machine()} {name}"
        try:
            yield
        finally:
            os.environ.pop(NAME, None)
            for number, handler in before.items():
                signal.signal(number, handler)


def _accept(line: socket.socket, jobs: list[socket.socket]) -> None:
    with contextlib.suppress(OSError):  # the line is cut
        while True:
            jobs.append(line.accept()[0])


def _end(jobs: list[socket.socket]) -> None:
    """Tell the jobs to end, and wait until they have, or were killed by those that watch over them."""
    deadline = time.monotonic() + PATIENCE_S + LAST_S
    for job in jobs:
        with contextlib.suppress(OSError):  # it has ended already
            job.shutdown(socket.SHUT_WR)
    for job in jobs:
        with contextlib.suppress(OSError):
            job.settimeout(max(0.01, deadline - time.monotonic()))
            job.recv(1)  # nothing is ever sent; returns when the job has ended


@contextlib.contextmanager
def attached() -> Iterator[None]:
    """In a job: SIGTERM comes to this process if the line is cut within.

    Jobs without a line, as those of SLURM, outlive the command.

    Raises:
        CutOff: if it is cut before or after something else within obeys SIGTERM.
    """
    place, _, name = os.environ.get(NAME, "").rpartition(" ")
    if not name or place != _machine():
        yield
        return

    def cut(number: int, frame: FrameType | None) -> None:
        raise CutOff

    over, before = threading.Event(), signal.signal(signal.SIGTERM, cut)
    with socket.socket(socket.AF_UNIX) as line:
        try:
            line.connect(f"\0{name}")
            threading.Thread(target=_watch, args=(line, over), daemon=True).start()
            yield
        except ConnectionError as error:
            raise CutOff from error
        finally:
            over.set()
            signal.signal(signal.SIGTERM, before)


def _watch(line: socket.socket, over: threading.Event) -> None:
    with contextlib.suppress(OSError):
        line.recv(1)  # nothing is ever sent; returns when the line is cut
    if not over.is_set():
        os.kill(os.getpid(), signal.SIGTERM)


def _machine() -> str:
    """What tells this machine, since it was started, and this network from all others."""
    started = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{started} {os.readlink('/proc/self/ns/net')}"
