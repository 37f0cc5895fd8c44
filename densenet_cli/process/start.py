"""What a process of one of our commands does first of all."""

from __future__ import annotations

import errno
import os
import re
import resource
import signal
import sys
from types import FrameType, TracebackType

# How the system's loader of libraries says that memory is short; Python then raises an ImportError.
NO_MEMORY = re.compile(
    r"[^\s:]*:? ?(failed to map segment|cannot allocate memory)[^\n]*", re.IGNORECASE
)


def begin(command: str) -> None:
    """Let the command load and end in order.

    No file in the working folder hides a module, Ctrl-C ends the command without a word, and too
    little memory is one message.

    Args:
        command: as it is typed.
    """

    def report(
        kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        message = too_little_memory(error)
        if message is None or os.environ.get("HYDRA_FULL_ERROR") == "1":
            sys.__excepthook__(kind, error, traceback)
        else:
            print(f"{command}: {message}", file=sys.stderr)

    sys.excepthook = report
    as_module = getattr(sys.modules["__main__"], "__spec__", None) is not None  # python -m
    if as_module and not getattr(sys.flags, "safe_path", False):
        sys.path.append(sys.path.pop(0))  # the working folder
    os.environ.setdefault("PYTHONSAFEPATH", "1")  # the same for processes that libraries start
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored
        signal.signal(signal.SIGINT, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Obey Ctrl-C; at once if it is the second one, or if a module is loading.

    A module that is interrupted may hide the KeyboardInterrupt behind an error of its own, and Python
    cannot raise it in all that runs as it ends; it then prints "Exception ignored in ...".
    """
    signal.signal(number, lambda number, frame: os._exit(128 + number))
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            os._exit(128 + number)
        frame = frame.f_back
    raise KeyboardInterrupt


def too_little_memory(error: BaseException | None) -> str | None:
    """What to tell a user if an error, or what it came of, means that memory is short; else None."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    limited = limit != resource.RLIM_INFINITY
    while error is not None:
        found = NO_MEMORY.search(str(error))
        short = isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM
        short |= isinstance(error, SystemError) and limited  # from modules that do not foresee it
        if found or short:
            reason = found[0] if found else str(error) or type(error).__name__
            rule = f"; ulimit -v allows {limit / 1e6:,.0f} MB" if limited else ""
            return f"there is too little memory: {reason}{rule}"
        error = error.__cause__ or error.__context__
    return None
