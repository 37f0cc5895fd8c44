"""How the three commands end when they cannot do what was typed: one message, exit status 1."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator

from densenet_cli.options import UserError
from densenet_cli.plain_text import printable

EXIT_STATUS = """\
exit status: 0 if all was done; 1 after a message on standard error that begins with the name of the
command; 2 for options that do not exist; 130 after Ctrl-C; 141 if the reader of the output has ended.
"""


@contextlib.contextmanager
def errors_as_messages(
    command: str, explain: Callable[[Exception], str | None] = lambda error: None
) -> Iterator[None]:
    """Within, an error that a user can cause ends the process with one message, "command: ...".

    HYDRA_FULL_ERROR=1 in the environment shows its traceback instead. Ctrl-C ends the process with
    status 130.

    Args:
        command: the name of the command, as typed.
        explain: the message for an error that is neither a UserError nor an OSError; None: the error
            is a fault of ours, whose traceback is shown.
    """
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        message = _message(error, explain)
        if message is None or os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        sys.exit(printable(f"{command}: {message}", keep="\n"))


def _message(error: Exception, explain: Callable[[Exception], str | None]) -> str | None:
    if isinstance(error, UserError):
        return str(error)
    message = explain(error)  # before the next line, since some errors of Hydra's are OSErrors too
    if message is None and isinstance(error, OSError):
        return f"{error.filename or 'output'}: cannot be read or written: {error.strerror or error}"
    return message
