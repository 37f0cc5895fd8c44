"""Ends a process that torchrun or srun started when another process of its run has failed.

The other process may leave this one waiting in a collective operation, for half an hour with NCCL; and
srun ends nobody unless --kill-on-bad-exit=1 is typed.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from densenet_cli.process import ranks

POLL_S = 1.0  # between two looks at the run's folder
PATIENCE_S = 5.0  # for this process to fail by itself, as it does when a connection is closed


@contextlib.contextmanager
def watched(folder: Path, report: Callable[[str], None]) -> Iterator[None]:
    """Within, end this process if another one of the run fails: exit status 1.

    Args:
        folder: the run's folder, in which a process that fails leaves its message.
        report: called with that message, before the end.
    """
    if not ranks.launched_from_outside():
        yield
        return
    over, ending = threading.Event(), threading.Lock()

    def watch() -> None:
        while not over.wait(POLL_S):
            message = ranks.read_message(folder)
            if message is None or over.wait(PATIENCE_S):
                continue
            with ending:
                if not over.is_set():
                    try:
                        report(message)
                    finally:
                        end(1)

    threading.Thread(target=watch, daemon=True, name="other processes").start()
    try:
        yield
    finally:
        over.set()
        with ending:  # for ever, if the other thread is ending this process
            pass


def end(status: int) -> None:
    """End this process without waiting for others, which libraries would do."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
