"""Which runs use a device at the same time: its counter cannot say how much each of them has used."""

from __future__ import annotations

import os
import re
import tempfile
import uuid
from pathlib import Path

from filelock import FileLock, Timeout


class DeviceUse:
    """The use of a device by a run, from `enter` to `leave`, beside other runs of this user.

    Each use is a locked file in a folder for the device. Who comes marks the uses that it finds, and is
    marked itself. The file of a process that was killed is not locked, and is removed by the next one.
    Runs of other users, in other containers, or with another folder for temporary files are not seen,
    nor are other programs: what they use counts as that of the run.

    Args:
        device: its name.
        root: a folder of this machine; by default in the folder for temporary files.
    """

    def __init__(self, device: str, root: Path | None = None) -> None:
        root = root or Path(tempfile.gettempdir()) / f"densenet-cli-energy-{os.getuid()}"
        self._folder = root / re.sub(r"[^A-Za-z0-9-]+", "-", device)
        self._mine = self._folder / f"{uuid.uuid4().hex}.use"
        self._lock = FileLock(self._mine)

    def enter(self) -> None:
        """Begin the use."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self._folder / ".lock"):
            others = [path for path in self._folder.glob("*.use") if not _removed(path)]
            self._lock.acquire()
            for path in [*others, self._mine] if others else []:
                _mark(path).touch()

    @property
    def was_shared(self) -> bool:
        """Whether another run has used the device since `enter`, or this cannot be told.

        It cannot if somebody has cleared the folder for temporary files.
        """
        return _mark(self._mine).exists() or not self._mine.exists()

    def leave(self) -> None:
        """End the use."""
        with FileLock(self._folder / ".lock"):
            self._lock.release()
            self._mine.unlink(missing_ok=True)
            _mark(self._mine).unlink(missing_ok=True)


def _mark(path: Path) -> Path:
    return path.with_suffix(".shared")


def _removed(path: Path) -> bool:
    """Remove the file of a use whose process has died; False if it lives."""
    try:
        with FileLock(path, timeout=0):
            path.unlink(missing_ok=True)
            _mark(path).unlink(missing_ok=True)
    except Timeout:
        return False
    return True
