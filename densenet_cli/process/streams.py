"""Standard output and error that cannot be written: closed, without a reader, or on a full disk.

With a closed terminal (EIO), a pipe without a reader (EPIPE) or a full disk (ENOSPC) every `print`, log
message, warning and progress bar fails, ours and those of all libraries, and finally the flush when
Python ends. Therefore these errors are handled in one place, where bytes leave the process.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from densenet_cli.plain_text import printable

READER_GONE = 128 + 13  # the exit status of `cat` in `cat FILE | head`: 128 + SIGPIPE


def say(message: str) -> None:
    """Print a message of densenet-run on standard error."""
    print(printable(f"densenet-run: {message}", keep="\n"), file=sys.stderr, flush=True)


def drop_what_cannot_be_written() -> None:
    """From now on, writing to standard output and error never fails. For commands that train.

    What cannot be written is dropped. Later writes are tried again, since a disk may get free space.
    """
    _open_the_closed()
    for name in ("stdout", "stderr"):
        _replace(name, lambda error: None)


class EndWithReader:
    """Within, the command ends as soon as its output cannot be written. For commands that print.

    If a pipe has lost its reader, it ends silently, like `cat FILE | head`; otherwise with a message.
    Standard error is treated as by `drop_what_cannot_be_written`.

    Attributes:
        at_once: False lets a command first complete the files that it writes.
    """

    def __init__(self, command: str) -> None:
        self.command, self.at_once = command, True
        self._failure: OSError | None = None

    def __enter__(self) -> EndWithReader:
        _open_the_closed()
        _replace("stdout", self._fail)
        _replace("stderr", lambda error: None)
        return self

    def __exit__(self, *_: object) -> None:
        sys.stdout.flush()  # Python's own flush, later, could not end silently
        if self._failure is not None and self._failure.errno != errno.EPIPE:
            self._end(self._failure)

    def _fail(self, error: OSError) -> None:
        # Further output, such as the flush when Python ends, is discarded.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        self._failure = error
        if self.at_once:
            self._end(error)

    def _end(self, error: OSError) -> NoReturn:
        # Not an OSError, which would be reported as one of a file that the command reads.
        if error.errno == errno.EPIPE:
            raise SystemExit(READER_GONE)
        raise SystemExit(f"{self.command}: standard output cannot be written: {error.strerror}")


class _Descriptor(io.FileIO):
    """A file descriptor that passes the error of each failed write to `on_failure`."""

    def __init__(self, number: int, on_failure: Callable[[OSError], None]) -> None:
        super().__init__(number, "w", closefd=False)
        self._on_failure = on_failure

    def write(self, data: Any) -> int:
        """Write bytes; return how many were written or dropped."""
        while True:
            try:
                written = super().write(data)
            except OSError as error:
                self._on_failure(error)
                return memoryview(data).nbytes
            if written is not None:
                return written
            select.select([], [self], [])  # another program has made the terminal non-blocking


def _open_the_closed() -> None:
    """Open the null device in place of closed standard descriptors (`2>&-`).

    Otherwise the next file that is opened gets that number, and standard error is written to it.
    """
    for number, mode in enumerate((os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # gets the lowest number that is free: this one


def _replace(name: str, on_failure: Callable[[OSError], None]) -> None:
    """Replace Python's own stream by one whose failed writes go to `on_failure`."""
    number, stream = {"stdout": 1, "stderr": 2}[name], getattr(sys, name)
    if stream is not None:
        try:
            is_pythons_own = stream.fileno() == number
        except (OSError, ValueError):
            is_pythons_own = False
        if not is_pythons_own:
            return  # somebody else, such as pytest, has replaced it already
        with contextlib.suppress(OSError):
            stream.flush()
    raw = _Descriptor(number, on_failure)
    unbuffered = isinstance(getattr(stream, "buffer", None), io.RawIOBase)  # python -u
    errors = getattr(stream, "errors", "strict")
    new = io.TextIOWrapper(
        raw if unbuffered else io.BufferedWriter(raw),
        encoding=getattr(stream, "encoding", "utf-8"),
        # Characters that a terminal cannot show are written as escapes, as on standard error.
        errors="backslashreplace" if errors == "strict" else errors,
        line_buffering=getattr(stream, "line_buffering", True),
        write_through=getattr(stream, "write_through", False),
    )
    setattr(sys, name, new)
    setattr(sys, f"__{name}__", new)
