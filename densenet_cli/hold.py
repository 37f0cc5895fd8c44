"""One process's hold on a run's folder, which ends with the process, however it ends."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, LeaseCompromise, SoftFileLease, Timeout

from densenet_cli.options import UserError

LEASE_S = 60.0  # without a sign of life for so long, a process on another machine counts as dead
HEARTBEAT_S = 15.0
BUSY = 75  # exit status: another process holds the folder (EX_TEMPFAIL)

log = logging.getLogger(__name__)


class InUse(UserError):
    """Another process holds the folder."""


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold a folder against all other processes, on this machine and others that see it.

    `.lock` is locked by the system, which frees it at once when the process dies. Network file systems
    may not pass such locks on, so `.alive` names the holder too, and is touched every 15 s.

    Raises:
        InUse: if another process holds it.
    """
    lock = FileLock(folder / ".lock", timeout=0)
    lease = SoftFileLease(
        folder / ".alive",
        lease_duration=LEASE_S,
        heartbeat_interval=HEARTBEAT_S,
        on_compromise=_stop,
        timeout=0.2,  # a dead process's lease takes a second try
        poll_interval=0.01,
    )
    try:
        with lock, lease:
            yield
    except Timeout:
        raise InUse(f"{folder} is in use by a run that is still going on") from None


def is_held(folder: Path) -> bool:
    """Whether a process gave a sign of life in the folder within the last minute."""
    try:
        return time.time() - (folder / ".alive").stat().st_mtime < LEASE_S
    except OSError:
        return False


def _stop(loss: LeaseCompromise) -> None:
    if loss.reason == "owner-changed":  # we slept for so long that another process went on
        log.error("another process has taken over %s: this one stops", loss.lock_file)
        os.kill(os.getpid(), signal.SIGTERM)
