"""Many files in little memory: their paths, sizes and times."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np

CHUNK = 1000  # files that are handled at a time
SLOW = 50e-6  # seconds for each file; where the system has a folder in memory, it takes a tenth
THREADS = 16  # where files are slow: they wait for a disk or a server, not for a core
NONE = -1  # the size and the time of a file that is not there

Result = TypeVar("Result")


class Paths(Sequence[str]):
    """Paths in one piece of memory: half of what a list of strings takes.

    A forked process can read them without copying their memory; it would copy strings one after the
    other, because reading an object counts a reference to it.
    """

    def __init__(self, paths: Sequence[str] = ()) -> None:
        self._set(os.fsencode("\0".join([*paths, ""])))

    def _set(self, content: bytes) -> None:
        self._content = content
        ends = np.flatnonzero(np.frombuffer(self._content, np.uint8) == 0)
        self._starts = np.concatenate([np.zeros(1, np.int64), ends + 1])[:-1]

    @classmethod
    def of(cls, content: bytes) -> Paths:
        """The paths in a piece of memory, each with a zero byte at its end."""
        paths = cls()
        paths._set(content)
        return paths

    @classmethod
    def joined(cls, parts: Iterable[Paths]) -> Paths:
        """The paths of all parts, one after the other."""
        contents: dict[int, tuple[int, bytes]] = {}  # each once, where it begins in all
        starts, end = [np.empty(0, np.int64)], 0
        for part in parts:
            if id(part._content) not in contents:
                contents[id(part._content)] = end, part._content
                end += len(part._content)
            starts.append(part._starts + contents[id(part._content)][0])
        joined = cls()
        joined._content = b"".join(content for _, content in contents.values())
        joined._starts = np.concatenate(starts)
        return joined

    def chosen(self, indices: np.ndarray | slice) -> Paths:
        """The paths with these indices, which share the memory of all."""
        chosen = Paths()
        chosen._content, chosen._starts = self._content, self._starts[indices]
        return chosen

    def within(self, folder: Path) -> Paths:
        """The paths relative to a folder; those of files elsewhere stay as they are."""
        return Paths.of(b"".join(path + b"\0" for path in self._each_within(folder)))

    def _each_within(self, folder: Path) -> Iterator[bytes]:
        prefix = os.path.join(os.fsencode(folder), b"")
        return (self.encoded(index).removeprefix(prefix) for index in range(len(self)))

    def state(self) -> bytes:
        """A digest that changes when the paths do."""
        state = hashlib.sha256(self._starts.tobytes())
        state.update(self._content)
        return state.digest()

    def content(self) -> bytes:
        """All paths, each with a zero byte at its end."""
        return b"".join(self.encoded(index) + b"\0" for index in range(len(self)))

    def places_in(self, others: Paths, folder: Path) -> np.ndarray:
        """The index of each path among others, (n,) int64.

        Args:
            others: paths that are relative to `folder`, or from which these were chosen.

        Raises:
            KeyError: if a path is not among them.
        """
        if self._content is others._content:  # chosen from them, or from the same ones as they are
            order = np.argsort(others._starts, kind="stable")
            return order[np.searchsorted(others._starts, self._starts, sorter=order)]
        known = {others.encoded(index): index for index in range(len(others))}
        return np.array([known[path] for path in self._each_within(folder)], np.int64)

    def encoded(self, index: int) -> bytes:
        """A path as the system has it."""
        start = int(self._starts[index])
        return self._content[start : self._content.index(b"\0", start)]

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> Paths: ...

    def __getitem__(self, index: int | slice) -> str | Paths:
        return self.chosen(index) if isinstance(index, slice) else os.fsdecode(self.encoded(index))

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


def stamps(paths: Paths) -> np.ndarray:
    """Size in bytes and time of the last change in ns of each file, (n, 2) int64; NONE of no file."""

    def read(part: range) -> np.ndarray:
        found: list[int] = []
        for index in part:
            try:
                status = os.stat(paths.encoded(index))
            except OSError:  # a dangling link, for example: the check reports it
                found += (NONE, NONE)
            else:
                found += (status.st_size, status.st_mtime_ns)
        return np.array(found, np.int64).reshape(-1, 2)

    return np.concatenate([np.empty((0, 2), np.int64), *in_chunks(len(paths), read)])


def in_chunks(number: int, work: Callable[[range], Result]) -> Iterator[Result]:
    """The results of `work` on the first files, the next ones and so on.

    Once files turn out to be slow, as on a server or a disk that was not read yet, many are requested
    at a time. Where they are not, threads would only wait for one another.
    """
    chunks = iter([range(begin, min(begin + CHUNK, number)) for begin in range(0, number, CHUNK)])
    for chunk in chunks:
        begin = time.perf_counter()
        yield work(chunk)
        if time.perf_counter() - begin > SLOW * len(chunk):
            break
    with ThreadPoolExecutor(THREADS) as pool:
        yield from pool.map(work, chunks)
