"""One process's hold on a run's folder, which ends with the process, however it ends."""

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

LEASE_S = 60.0  # without a sign of life for so long, a process on another machine counts as dead
HEARTBEAT_S = 15.0
BUSY = 75  # exit status: another process holds the folder (EX_TEMPFAIL)

log = logging.getLogger(__name__)


class InUse(UserError):
    """Another process holds the folder."""


class Lost(UserError):
    """This process held the folder, and does so no longer: it must write nothing more there."""


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[Callable[[], None]]:
    """Hold a folder against all other processes, on this machine and others that see it.

    `.lock` is locked by the system, which frees it at once when the process dies. Network file systems
    may not pass such locks on, so `.alive` names the holder too, and is touched every 15 s. A process
    that was stopped for more than a minute may so lose its hold to one on another machine. It notices
    before it replaces any file below the folder (see `whole_file`), and is sent SIGTERM besides.

    Yields:
        A function that raises Lost if the folder is no longer held.

    Raises:
        InUse: if another process holds it.
    """
    lock, lease = FileLock(folder / ".lock", timeout=0), _lease(folder)
    if lease.owner is None:  # none, or one that died as it wrote: that counts as dead after 2 s
        lease.timeout = 3
    try:
        with lock, lease:
            token = lease.token

            def check() -> None:
                owner = lease.owner  # as the file names it now
                if owner is None or owner.token != token:
                    raise Lost(_loss(folder))

            with guarded(folder, check):
                yield check
    except Timeout:
        raise InUse(f"{folder} is in use by a run that is still going on") from None


def is_held(folder: Path) -> bool:
    """Whether a process holds the folder, as far as can be told without holding it.

    A process on another machine does if it gave a sign of life within the last minute.
    """
    try:
        age = time.time() - (folder / ".alive").stat().st_mtime
    except OSError:
        return False
    return age < LEASE_S and not _owner_is_dead(folder)


def _owner_is_dead(folder: Path) -> bool:
    """Whether the holder was a process of this machine that is no more."""
    owner = _lease(folder).owner
    if owner is None or owner.hostname != socket.gethostname():
        return False
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's
        return False
    return False


def _lease(folder: Path) -> SoftFileLease:
    return SoftFileLease(
        folder / ".alive",
        lease_duration=LEASE_S,
        heartbeat_interval=HEARTBEAT_S,
        on_compromise=_stop,
        timeout=0.2,  # a dead process's lease takes a second try
        poll_interval=0.01,
    )


def _loss(folder: Path) -> str:
    if not folder.is_dir():
        return f"{folder} is gone: it was deleted or moved while its run went on, which ends here"
    return (
        f"{folder} is no longer held by this run: another process took it over after {LEASE_S:.0f} s "
        "without a sign of life, or its .alive was deleted; this run stops and writes nothing more"
    )


def _stop(loss: LeaseCompromise) -> None:
    """Ask the main thread to stop; it finds out by itself what it may still write."""
    if loss.reason == "refresh-failed":  # before others take this process for dead
        log.warning("%s: no sign of life can be given (%s): the run stops", loss.lock_file, loss.error)
    os.kill(os.getpid(), signal.SIGTERM)
