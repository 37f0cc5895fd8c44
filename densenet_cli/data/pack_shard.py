"""One shard of a pack that is being made: written image by image, and continued after a kill.

Beside the archive shard-00000.tar there are then

    shard-00000.npy   the rows of its first images, as many as are certainly on the disk
    shard-00000.json  why images among them were left out
"""

from __future__ import annotations

import contextlib
import json
import os
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from densenet_cli.data.pack import ROW, shard_name
from densenet_cli.data.pack_entry import Entry
from densenet_cli.files.atomic_file import replace_file
from densenet_cli.files.plain_file import read_json
from densenet_cli.options import UserError

NOTE_S = 2  # a kill loses at most so much of the work
Part = tuple[Path, np.ndarray]
"""An archive, and the rows of the images in it."""


class Shard:
    """A shard that is being written.

    Args:
        folder: of the pack.
        number: of the shard.
        rows: the places in the pack of all images that it will hold.
        check: raises an error if this process may no longer write.

    Attributes:
        lacking: the places of those that it does not hold yet.
        index: their rows in the index; only the first ones are set as long as some are lacking.
        broken: place -> why the image was left out.
    """

    def __init__(self, folder: Path, number: int, rows: range, check: Callable[[], None]) -> None:
        self.number, self._rows, self._check = number, rows, check
        self.path = folder / shard_name(number)
        self.index = np.zeros(len(rows), ROW)
        self.broken: dict[str, str] = {}
        self._done = 0
        if self.path.exists():
            done = np.load(self.path.with_suffix(".npy"), allow_pickle=False)
            self._done = len(done)
            self.index[: self._done] = done
            reasons = read_json(self.path.with_suffix(".json"))
            self.broken = {str(row): reasons[str(row)] for row in self._without_content()}

    @property
    def lacking(self) -> range:
        """The places of the images that it does not hold yet."""
        return self._rows[self._done :]

    def _without_content(self) -> list[int]:
        return [self._rows[place] for place in np.flatnonzero(self.index["length"][: self._done] == 0)]

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Within this context images can be added. All must be, else it is continued another time."""
        with self.path.open("r+b" if self._done else "wb", buffering=1 << 20) as self._file:
            self._file.seek(end(self.index[: self._done]))
            self._file.truncate()
            self._noted = time.monotonic()
            try:
                yield
            except BaseException:  # an interruption, or a full disk
                with contextlib.suppress(OSError, UserError):
                    self._note()
                raise
            self._file.write(bytes(2 * tarfile.BLOCKSIZE))  # the end of the archive
            self._note()

    def add(self, name: str, one: Entry, stamps: np.ndarray) -> None:
        """Add the next image, or leave it out if it is broken.

        Args:
            name: of its file.
            one: the image.
            stamps: size and time of its file.
        """
        if time.monotonic() > self._noted + NOTE_S:
            self._note()
        begin = 0
        if one.fault:
            self.broken[str(self._rows[self._done])] = one.fault
        else:
            begin = _add(self._file, name + one.ending, one)
        self.index[self._done] = (
            *(self.number, begin, len(one.content), one.height, one.width, one.channels),
            *(one.pixels, one.digest, *stamps),
        )
        self._done += 1

    def _note(self) -> None:
        """Put the images on the disk, and then note that they are there."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._check()
        replace_file(self.path.with_suffix(".json"), json.dumps(self.broken))
        index = self.index[: self._done]
        replace_file(self.path.with_suffix(".npy"), lambda stream: np.save(stream, index))
        self._noted = time.monotonic()


def parts(folder: Path, kind: str = "*") -> Iterator[Part]:
    """The shards of an unfinished pack, as far as they have been written.

    Args:
        folder: of the pack.
        kind: "shard", "older", see `pack_writer._Maker`; or "*": both.
    """
    for path in sorted(folder.glob(f"{kind}-*.npy")):
        archive, index = path.with_suffix(".tar"), np.load(path, allow_pickle=False)
        if index.dtype == ROW and archive.exists() and archive.stat().st_size >= end(index):
            yield archive, index


def end(index: np.ndarray) -> int:
    """Where the images of a shard end, in bytes: at the end of a block."""
    there = index[index["length"] > 0]
    last = int(there[-1]["offset"]) + int(there[-1]["length"]) if len(there) else 0
    return last + -last % tarfile.BLOCKSIZE


def _add(file: BinaryIO, name: str, one: Entry) -> int:
    """Add an image to an archive; return where its file, or its first pixel, begins."""
    member = tarfile.TarInfo(name)
    member.size = len(one.header) + len(one.content)
    file.write(member.tobuf(tarfile.GNU_FORMAT, errors="surrogateescape"))
    file.write(one.header)
    begin = file.tell()
    file.write(one.content)
    file.write(bytes(-member.size % tarfile.BLOCKSIZE))
    return begin
