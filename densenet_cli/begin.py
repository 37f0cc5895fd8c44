"""What a process of one of our commands does first of all."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType


def begin() -> None:
    """Let no file in the working folder hide a module, and Ctrl-C end the command without a word."""
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
