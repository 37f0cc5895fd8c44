"""A lock on a run's folder: one process at a time writes there, and the lock ends with that process."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, LeaseCompromise, SoftFileLease, Timeout

from densenet_cli.files.atomic_file import guarded
from densenet_cli.options import UserError

LEASE_S = 60.0  # a process on another machine counts as dead after so long without a heartbeat
HEARTBEAT_S = 15.0
BUSY = 75  # exit status: another process has locked the folder (EX_TEMPFAIL)

log = logging.getLogger(__name__)


class FolderInUse(UserError):
    """Another process has locked the folder."""


class LockLost(UserError):
    """This process no longer has the lock it took: it must write nothing more in the folder."""


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[Callable[[], None]]:
    """Lock a folder against all other processes, on this machine and on others that see it.

    `.lock` is locked by the operating system, which frees it as soon as the process dies. Network file
    systems may not pass such locks on to other machines. So `.alive` also names the process, which
    touches that file every 15 s. A process that is stopped for more than a minute can thus lose its
    lock to another machine. It notices this before it replaces any file in the folder (see
    `atomic_file.guarded`), and also receives SIGTERM.

    Yields:
        A function that raises LockLost if the lock is lost.

    Raises:
        FolderInUse: if another process has locked the folder.
    """
    lock, lease = FileLock(folder / ".lock", timeout=0), _lease(folder)
    if lease.owner is None:  # no lease; or its process died while writing it, and is dead after 2 s
        lease.timeout = 3
    try:
        with lock, lease:
            token = lease.token

            def check() -> None:
                owner = lease.owner  # as .alive names it now
                if owner is None or owner.token != token:
                    raise LockLost(_why_lost(folder))

            with guarded(folder, check):
                yield check
    except Timeout:
        raise FolderInUse(f"{folder} is in use: another process is running there") from None


def is_locked(folder: Path) -> bool:
    """Whether a process has locked the folder, as far as this can be told without taking the lock.

    The lock of a process on another machine counts if its last heartbeat is less than a minute old.
    """
    try:
        age = time.time() - (folder / ".alive").stat().st_mtime
    except OSError:
        return False
    return age < LEASE_S and not _owner_is_dead(folder)


def _owner_is_dead(folder: Path) -> bool:
    """Whether the lock was taken by a process of this machine that no longer exists."""
    owner = _lease(folder).owner
    if owner is None or owner.hostname != socket.gethostname():
        return False
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # it belongs to another user
        return False
    return False


def _lease(folder: Path) -> SoftFileLease:
    return SoftFileLease(
        folder / ".alive",
        lease_duration=LEASE_S,
        heartbeat_interval=HEARTBEAT_S,
        on_compromise=_stop,
        timeout=0.2,  # taking over the lease of a dead process needs a second try
        poll_interval=0.01,
    )


def _why_lost(folder: Path) -> str:
    if not folder.is_dir():
        return f"{folder} is gone: it was deleted or moved during the run, which stops here"
    return (
        f"{folder} is no longer locked by this run: another process took it over after {LEASE_S:.0f} s "
        "without a heartbeat, or its .alive was deleted; this run stops and writes nothing more"
    )


def _stop(loss: LeaseCompromise) -> None:
    """Ask the main thread to stop; it finds out by itself what it may still write."""
    if loss.reason == "refresh-failed":  # the run stops before other machines consider it dead
        log.warning(
            "%s: the heartbeat cannot be written (%s): the run stops", loss.lock_file, loss.error
        )
    os.kill(os.getpid(), signal.SIGTERM)
