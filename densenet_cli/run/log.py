"""Messages of a run: all are written to run.log, our own warnings also to the terminal."""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from densenet_cli.files.lock import LockLost
from densenet_cli.plain_text import Formatter
from densenet_cli.process import ranks

IGNORED_WARNINGS = (
    ".*ended before the epoch ended and your dataloader is not resumable",  # see ImageData.resume_at
    ".*does not have many workers",  # images in memory need no workers
    ".*LeafSpec.*deprecated",  # Lightning uses it, not we
    ".*It is recommended to use `self.log.*sync_dist=True",  # we log values that are summed already
)


class RunLog(logging.FileHandler):
    """Appends messages to a file. A message that cannot be written is dropped: training continues.

    Args:
        path: the file.
        check: raises LockLost if another process has taken over the run's folder.

    Attributes:
        fault: the first error that kept a message from the disk; None if there was none.
    """

    def __init__(self, path: Path, check: Callable[[], None]) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace")
        self._check = check
        self.fault: OSError | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write a message, unless another process has taken over the folder."""
        try:
            self._check()
        except LockLost:  # the command reports it when it ends
            return
        super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 -- logging's name
        """Note an error of the disk, which the command reports once."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            self.fault = self.fault or error
        else:
            super().handleError(record)

    def close(self) -> None:
        """Close the file, also if the last messages cannot be written."""
        try:
            super().close()
        except OSError as error:
            self.fault = self.fault or error


@contextlib.contextmanager
def logged(folder: Path, check: Callable[[], None]) -> Iterator[RunLog]:
    """Within, messages are written to the folder's run.log, our own warnings also to the terminal.

    Args:
        folder: the run's folder; it exists.
        check: raises LockLost if another process has taken over the folder.
    """
    file = RunLog(folder / "run.log", check)
    file.setLevel(logging.INFO if ranks.is_first_process() else logging.ERROR)
    file.setFormatter(Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    terminal = logging.StreamHandler()
    terminal.setLevel(logging.WARNING if ranks.is_first_process() else logging.ERROR)
    terminal.setFormatter(Formatter("densenet-run: %(message)s"))
    terminal.addFilter(logging.Filter("densenet_cli"))
    terminal.addFilter(
        lambda message: message.levelno < logging.ERROR
    )  # an error is printed by the command
    root, own = logging.getLogger(), logging.getLogger("densenet_cli")
    before = root.level
    root.addHandler(file)
    own.addHandler(terminal)
    own.setLevel(logging.INFO)
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    for text in IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", message=text)
    try:
        yield file
    finally:
        logging.captureWarnings(False)
        root.removeHandler(file)
        own.removeHandler(terminal)
        root.setLevel(before)
        file.close()
