"""What each command does first: before torch is imported, and before anything can fail."""

from __future__ import annotations

import errno
import os
import re
import resource
import signal
import sys
from types import FrameType, TracebackType

from densenet_cli.process import ranks
from densenet_cli.process.stop_signals import stop_signals

# What the dynamic linker says if there is too little memory; Python then raises an ImportError.
NO_MEMORY = re.compile(
    r"[^\s:]*:? ?(failed to map segment|cannot allocate memory)[^\n]*", re.IGNORECASE
)


def begin(command: str) -> None:
    """Prepare the process of a command.

    Files in the working folder replace no modules, Ctrl-C ends the command without a traceback, and
    too little memory is reported in one message.

    Args:
        command: its name, as typed.
    """

    if command == "densenet-run" and ranks.launcher() == "srun":
        # Nobody ends the other processes if this one stops before them: signals wait until the run
        # handles them, see training.interruption.
        signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals())

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
    os.environ.setdefault("PYTHONSAFEPATH", "1")  # for processes that libraries start
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored
        signal.signal(signal.SIGINT, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt; at the second Ctrl-C, or while a module is imported, end at once.

    Some modules turn a KeyboardInterrupt during their import into other errors; and where Python cannot
    raise it, as while it ends, it prints "Exception ignored in ...".
    """
    signal.signal(number, lambda number, frame: os._exit(128 + number))
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            os._exit(128 + number)
        frame = frame.f_back
    raise KeyboardInterrupt


def too_little_memory(error: BaseException | None) -> str | None:
    """The message for an error that was caused by too little memory; None for any other error."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    limited = limit != resource.RLIM_INFINITY
    while error is not None:
        found = NO_MEMORY.search(str(error))
        short = isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM
        short |= isinstance(error, SystemError) and limited  # from extension modules that do not check
        if found or short:
            reason = found[0] if found else str(error) or type(error).__name__
            rule = f"; ulimit -v allows {limit / 1e6:,.0f} MB" if limited else ""
            return f"there is too little memory: {reason}{rule}"
        error = error.__cause__ or error.__context__
    return None
