"""run.log: a run's messages, as long as the run holds its folder and the disk takes them."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path

from densenet_cli.hold import Lost


class RunLog(logging.FileHandler):
    """Appends messages to a file; what cannot be written is dropped, and training goes on.

    Args:
        path: the file.
        check: raises Lost where the run's folder has become another process's.

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
        except Lost:  # the command says so as it ends
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
