"""Where a run's messages go: to run.log, and the warnings of our own to the terminal too."""

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

UNFOUNDED_WARNINGS = (
    ".*ended before the epoch ended and your dataloader is not resumable",  # it is: see resume_at
    ".*does not have many workers",  # images in memory need none
    ".*LeafSpec.*deprecated",  # between Lightning and torch
    ".*It is recommended to use `self.log.*sync_dist=True",  # what we log is summed already
)


class RunLog(logging.FileHandler):
    """Appends messages to a file; what cannot be written is dropped, and training goes on.

    Args:
        path: the file.
        check: raises LockLost where the run's folder has become another process's.

    Attributes:
        fault: the first error that kept a message from the disk; None if there was none.
    """

    def __init__(self, path: Path, check: Callable[[], None]) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace")
        self._check = check
        self.fault: OSError | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write a message, unless the folder is another process's."""
        try:
            self._check()
        except LockLost:  # the command says so as it ends
            return
        super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 -- logging's name
        """Note an error of the disk, for the command to tell once."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            self.fault = self.fault or error
        else:
            super().handleError(record)

    def close(self) -> None:
        """Close the file, also where the disk does not take the rest."""
        try:
            super().close()
        except OSError as error:
            self.fault = self.fault or error


@contextlib.contextmanager
def logged(folder: Path, check: Callable[[], None]) -> Iterator[RunLog]:
    """Within, messages go to run.log in the folder, and warnings of our own to the terminal too.

    Args:
        folder: the run's; it exists.
        check: raises LockLost where the folder has become another process's.
    """
    file = RunLog(folder / "run.log", check)
    file.setLevel(logging.INFO if ranks.is_first_process() else logging.ERROR)
    file.setFormatter(Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    terminal = logging.StreamHandler()
    terminal.setLevel(logging.WARNING if ranks.is_first_process() else logging.ERROR)
    terminal.setFormatter(Formatter("densenet-run: %(message)s"))
    terminal.addFilter(logging.Filter("densenet_cli"))
    terminal.addFilter(lambda message: message.levelno < logging.ERROR)  # errors are said once
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
    for text in UNFOUNDED_WARNINGS:
        warnings.filterwarnings("ignore", message=text)
    try:
        yield file
    finally:
        logging.captureWarnings(False)
        root.removeHandler(file)
        own.removeHandler(terminal)
        root.setLevel(before)
        file.close()
