"""A connection between a command and the jobs that a launcher plugin runs for it: they end with it.

The command listens at a socket that has a name but no file (Linux). Each job on this machine connects
to it and waits. The operating system closes the connection when the command stops listening or dies,
even if it is killed.
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

VARIABLE = "DENSENET_CLI_LIFELINE"  # tells jobs where to connect
MANY = 4096  # jobs at once; the operating system may have a lower limit


class CommandSignalled(BaseException):
    """A signal asked the command to end; its jobs have ended, or did not within the time allowed."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(number)


class CommandEnded(Exception):
    """The command that started this job has died, or was asked by a signal to end."""


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """In the command, while it launches jobs: listen for them.

    Raises:
        CommandSignalled: after a signal, which ends the connections; once the jobs have ended.
    """
    if sys.platform != "linux":
        yield
        return
    name = f"densenet-cli-{os.getpid()}-{secrets.token_hex(8)}"
    jobs: list[socket.socket] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{name}")
        listener.listen(MANY)
        threading.Thread(target=_accept, args=(listener, jobs), daemon=True).start()

        def end(number: int, frame: FrameType | None) -> None:
            if VARIABLE in os.environ:
                del os.environ[VARIABLE]
                listener.shutdown(socket.SHUT_RDWR)
                _end(jobs)
            raise CommandSignalled(number)

        before = {number: signal.signal(number, end) for number in stop_signals()}
        os.environ[VARIABLE] = f"{_machine()} {name}"
        try:
            yield
        finally:
            os.environ.pop(VARIABLE, None)
            for number, handler in before.items():
                signal.signal(number, handler)


def _accept(listener: socket.socket, jobs: list[socket.socket]) -> None:
    with contextlib.suppress(OSError):  # the command no longer listens
        while True:
            jobs.append(listener.accept()[0])


def _end(jobs: list[socket.socket]) -> None:
    """Close the connections, and wait until the jobs have ended or were killed by their supervisors."""
    deadline = time.monotonic() + PATIENCE_S + LAST_S
    for job in jobs:
        with contextlib.suppress(OSError):  # it has ended already
            job.shutdown(socket.SHUT_WR)
    for job in jobs:
        with contextlib.suppress(OSError):
            job.settimeout(max(0.01, deadline - time.monotonic()))
            job.recv(1)  # nothing is ever sent; returns when the job has ended


@contextlib.contextmanager
def connected() -> Iterator[None]:
    """In a job: send SIGTERM to this process if the command ends.

    A job whose command does not listen on this machine, such as a job of SLURM, outlives the command.

    Raises:
        CommandEnded: if the command ended while nothing within handled SIGTERM.
    """
    machine, _, name = os.environ.get(VARIABLE, "").rpartition(" ")
    if not name or machine != _machine():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise CommandEnded

    over, before = threading.Event(), signal.signal(signal.SIGTERM, end)
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(f"\0{name}")
            threading.Thread(target=_watch, args=(connection, over), daemon=True).start()
            yield
        except ConnectionError as error:
            raise CommandEnded from error
        finally:
            over.set()
            signal.signal(signal.SIGTERM, before)


def _watch(connection: socket.socket, over: threading.Event) -> None:
    with contextlib.suppress(OSError):
        connection.recv(1)  # nothing is ever sent; returns when the connection is closed
    if not over.is_set():
        os.kill(os.getpid(), signal.SIGTERM)


def _machine() -> str:
    """A name for this machine since it was started, and for this network namespace."""
    started = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{started} {os.readlink('/proc/self/ns/net')}"
