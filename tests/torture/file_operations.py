"""Counts the file operations of a process below a folder, and lets one of them fail."""

from __future__ import annotations

import builtins
import errno
import io
import os
import signal
import sys
from pathlib import Path
from typing import Any

CHANGES = {"os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
NEED_SPACE = {"create", "write", "fsync", "os.link", "os.mkdir"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class FileOperations:
    """From now on, the `at`-th file operation of this process kills it, or finds the disk full.

    File operations are those that change a folder: opening a file for writing, writing, fsync,
    renaming, linking or removing it, making a folder. Python reports most of them to its audit hooks.

    Args:
        folder: operations elsewhere do not count.
        at: the operation that fails, from 1; None for none.
        kill: whether the process is killed there, in the middle of a write; else the disk is full from
            there on.
    """

    def __init__(self, folder: Path, at: int | None = None, kill: bool = False) -> None:
        self.folder, self.at, self.kill, self.count = str(folder), at, kill, 0
        sys.addaudithook(self._hear)
        self._open, self._fsync, self._write = io.open, os.fsync, os.write
        builtins.open = io.open = self.open  # type: ignore[assignment]
        os.fsync, os.write = self.fsync, self.write

    def step(self, operation: str) -> None:
        """Count an operation; let it fail if it is the `at`-th."""
        self.count += 1
        if self.at is None or self.count < self.at:
            return
        if self.kill:
            os.kill(os.getpid(), signal.SIGKILL)
        if operation in NEED_SPACE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fsync(self, descriptor: int) -> None:
        """os.fsync, counted."""
        if self._is_below(_path(descriptor)):
            self.step("fsync")
        self._fsync(descriptor)

    def write(self, descriptor: int, data: Any) -> int:
        """os.write, counted."""
        if self._is_below(_path(descriptor)):
            self.step("write")
        return self._write(descriptor, data)

    def open(self, file: Any, mode: str = "r", *words: Any, **options: Any) -> Any:
        """open, with every write to the file counted."""
        stream = self._open(file, mode, *words, **options)
        writes = not isinstance(file, int) and set(mode) & set("wax+")
        if not writes or not self._is_below(file):
            return stream
        binary = getattr(stream, "buffer", stream)
        buffer = io.BufferedWriter(_Counted(self, binary.raw.fileno(), stream))
        if "b" in mode:
            return buffer
        return io.TextIOWrapper(buffer, stream.encoding, stream.errors, options.get("newline"))

    def _hear(self, event: str, words: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = words
            if isinstance(flags, int) and flags & WRITING and self._is_below(path):
                self.step("create")
        elif event in CHANGES and (self._is_below(words[0]) or self._is_below(words[1])):
            self.step(event)

    def _is_below(self, path: Any) -> bool:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return False
        return os.path.abspath(os.fsdecode(path)).startswith(self.folder)


class _Counted(io.RawIOBase):
    """A file whose writes are counted; `owner` is closed with it."""

    def __init__(self, operations: FileOperations, descriptor: int, owner: Any) -> None:
        self._operations, self._descriptor, self._owner = operations, descriptor, owner

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return os.lseek(self._descriptor, offset, whence)

    def fileno(self) -> int:
        return self._descriptor

    def write(self, data: Any) -> int:
        half = bytes(data)[: len(data) // 2]
        operations = self._operations
        if operations.kill and operations.count + 1 == operations.at:
            operations._write(self._descriptor, half)
        operations.step("write")
        return operations._write(self._descriptor, data)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._owner.close()


def _path(descriptor: int) -> str:
    return os.readlink(f"/proc/self/fd/{descriptor}")
