"""Make a pack once: on all cores, resumed after a kill, by one process while others wait."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import os
import shutil
import tarfile
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from densenet_cli.data.file_list import Paths
from densenet_cli.data.image_check import Examined, faults_message
from densenet_cli.data.image_data import usable_cores
from densenet_cli.data.pack import (
    FACTS,
    FORMAT,
    INDEX,
    LABELS,
    NAMES,
    ROW,
    VERSION,
    Pack,
    Packing,
    is_pack,
    shard_name,
)
from densenet_cli.data.pack_entry import Entry, entry
from densenet_cli.data.photo import limit_pixels
from densenet_cli.data.photo_split import Files
from densenet_cli.files.atomic_file import replace_file
from densenet_cli.files.lock import FolderInUse, lock_folder
from densenet_cli.files.plain_file import UnreadableFile, read_json
from densenet_cli.options import OptionError, UserError
from densenet_cli.plain_text import printable
from densenet_cli.units import memory

log = logging.getLogger(__name__)
SHARD_IMAGES = 8192  # part of the format: a shard that is not complete is packed again
PLAN = "plan.json"  # of an unfinished pack: what it will hold
SAMPLE = 32  # images from which the size of the pack is estimated
LOG_S = 10  # between two lines about the progress, where there is no terminal


@dataclass(frozen=True)
class Packable:
    """What is to be packed.

    Attributes:
        typed: the folder of the images, as the user typed it.
        files: all images; their order is that of the pack.
        names: their paths in the folder.
        digest: of the data set.
        classes: their names, label 0 first.
        splits: the number of images in "train", "validation", "test" or "all", which lie one after the
            other in `files`; None if the data set is no folder of classes.
    """

    typed: str
    files: Files
    names: Paths
    digest: str
    classes: list[str]
    splits: dict[str, int] | None

    @functools.cached_property
    def key(self) -> str:
        """Twelve hexadecimal digits that identify the names and sizes of the files, and their order."""
        content = hashlib.sha256(self.names.content())
        content.update(np.ascontiguousarray(self.files.stamps[:, 0]).tobytes())
        return content.hexdigest()[:12]


def make_pack(
    folder: Path, what: Packable, packing: Packing, max_pixels: int | None, skip_broken: bool = False
) -> Pack:
    """Pack images, unless another process has done so in the meantime.

    Args:
        folder: of the pack. An unfinished pack of the same images in it is completed.
        what: the images.
        packing: how they are packed.
        max_pixels: see `photo.limit_pixels`.
        skip_broken: whether to leave out images that are broken or too large.

    Raises:
        UserError: with all broken images and the reasons.
        OptionError: if the folder cannot be written or its disk has too little space.
    """
    limit_pixels(max_pixels)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()  # if this fails, a lock would wait forever
        with _locked_or_complete(folder) as check:
            if check is not None:
                _Maker(folder, what, packing, check).make(max_pixels, skip_broken)
    except OSError as error:
        place = error.filename or folder
        rule = (
            f"{place} cannot be written ({error.strerror or error}); free space there and start again, "
            "which continues, or name another place"
        )
        raise OptionError("pack", folder, rule, f"/path/{folder.name}") from error
    return Pack(folder)


@contextlib.contextmanager
def _locked_or_complete(folder: Path) -> Iterator[Callable[[], None] | None]:
    """Lock the folder, and yield the lock's check; None once another process has made the pack."""
    with contextlib.ExitStack() as stack:
        check, is_told = None, False
        while check is None and not is_pack(folder):
            try:
                check = stack.enter_context(lock_folder(folder))
            except FolderInUse:
                if not is_told:
                    log.warning("waiting: another process is packing the images to %s", folder)
                is_told = True
                time.sleep(0.5)
        yield None if is_pack(folder) else check


class _Maker:
    """Makes one pack; the folder is locked for it."""

    def __init__(
        self, folder: Path, what: Packable, packing: Packing, check: Callable[[], None]
    ) -> None:
        self.folder, self.what, self.packing, self.check = folder, what, packing, check
        self.images = len(what.files.labels)
        begins = range(0, self.images, SHARD_IMAGES)
        self.parts = [range(begin, min(begin + SHARD_IMAGES, self.images)) for begin in begins]

    def make(self, max_pixels: int | None, skip_broken: bool) -> None:
        """Write the shards that are missing, then the index, then pack.json."""
        self._begin()
        missing = [shard for shard in range(len(self.parts)) if not self._index(shard).exists()]
        with ThreadPoolExecutor(usable_cores()) as pool:
            self._check_space(pool, missing)
            log.info("packing %d images of %s to %s", self.images, self.what.typed, self.folder)
            faults: dict[int, Entry] = {}
            with _shown_progress(self.images) as advance:
                advance(self.images - sum(len(self.parts[shard]) for shard in missing))
                for shard in missing:
                    faults |= self._write(shard, pool, advance, skip_broken)
        if faults and not skip_broken:
            examined = [
                Examined(f"{printable(self.what.files.paths[row])}: {one.fault}", one.needed)
                for row, one in faults.items()
            ]
            images = f"{self.images} images of {self.what.typed}"
            raise UserError(faults_message(examined, images, max_pixels))
        self._complete()

    def _begin(self) -> None:
        """Begin a pack, or continue one of the same images; one of other images is begun anew."""
        for partial in self.folder.glob(".*.partial*"):  # of processes that were killed
            partial.unlink()
        plan = {"key": self.what.key, "packing": asdict(self.packing), "images": self.images}
        with contextlib.suppress(FileNotFoundError, UnreadableFile):
            if read_json(self.folder / PLAN) == plan:
                return
            log.warning("%s: the images have changed since it was begun; beginning anew", self.folder)
        for shard in range(len(list(self.folder.glob("shard-*.npy")))):
            self._index(shard).unlink(missing_ok=True)
        replace_file(self.folder / PLAN, json.dumps(plan))

    def _check_space(self, pool: ThreadPoolExecutor, missing: list[int]) -> None:
        """Raise OptionError if the disk has less space than the missing shards are likely to take."""
        rows = [row for shard in missing for row in self.parts[shard]]
        sample = rows[:: max(1, len(rows) // SAMPLE)]
        sizes = [len(one.content) + 1024 for one in pool.map(self._entry, sample) if not one.fault]
        needed = int(np.mean(sizes) * len(rows)) if sizes else 0
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            rule = f"needs some {memory(needed)}, and {memory(free)} are free; name another place"
            raise OptionError("pack", self.folder, rule, f"/path/{self.folder.name}")

    def _write(
        self,
        shard: int,
        pool: ThreadPoolExecutor,
        advance: Callable[[int], None],
        skip_broken: bool,
    ) -> dict[int, Entry]:
        """Write a shard and its part of the index, unless images in it are broken; return those."""
        rows, stamps = self.parts[shard], self.what.files.stamps
        index, faults = np.zeros(len(rows), ROW), {}
        path = self.folder / shard_name(shard)
        partial = path.with_name(f".{path.name}.partial")
        with partial.open("wb", buffering=1 << 20) as file:
            for row, one in zip(rows, self._entries(rows, pool), strict=True):
                begin = length = 0
                if one.fault:
                    faults[row] = one
                elif skip_broken or not faults:  # else this shard is not kept
                    begin = _add(file, self.what.names[row] + one.ending, one)
                    length = len(one.content) - one.header
                index[row - rows.start] = (
                    *(shard, begin, length, one.height, one.width, one.channels, one.pixels),
                    *(one.digest, *stamps[row]),
                )
                advance(1)
            file.write(bytes(2 * tarfile.BLOCKSIZE))  # the end of the archive
            file.flush()
            os.fsync(file.fileno())
        self.check()
        if faults and not skip_broken:
            partial.unlink()
            return faults
        partial.replace(path)
        reasons = {str(row): one.fault for row, one in faults.items()}
        replace_file(self._faults(shard), json.dumps(reasons))
        replace_file(self._index(shard), lambda stream: np.save(stream, index))
        return faults

    def _entries(self, rows: range, pool: ThreadPoolExecutor) -> Iterator[Entry]:
        """The images of these rows, in order, some of them ahead."""
        waiting: deque[Future[Entry]] = deque()
        for row in rows:
            waiting.append(pool.submit(self._entry, row))
            if len(waiting) > 4 * usable_cores():
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _entry(self, row: int) -> Entry:
        return entry(self.what.files.paths[row], self.packing)

    def _complete(self) -> None:
        """Join the parts of the index, and write pack.json, which makes the pack a pack."""
        shards = range(len(self.parts))
        index = np.concatenate([np.load(self._index(shard)) for shard in shards])
        broken: dict[str, str] = {}
        for shard in shards:
            broken |= read_json(self._faults(shard))
        replace_file(self.folder / INDEX, lambda stream: np.save(stream, index))
        replace_file(self.folder / NAMES, lambda stream: stream.write(self.what.names.content()))
        if self.what.splits is not None:
            labels = self.what.files.labels
            replace_file(self.folder / LABELS, lambda stream: np.save(stream, labels))
        facts: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "packing": asdict(self.packing),
            "images": self.images,
            "key": self.what.key,
            "digest": self.what.digest,
            "classes": self.what.classes,
            "splits": self.what.splits,
            "shards": [(self.folder / shard_name(shard)).stat().st_size for shard in shards],
            "broken": broken,
        }
        replace_file(self.folder / FACTS, json.dumps(facts, indent=1))
        for shard in shards:
            self._index(shard).unlink()
            self._faults(shard).unlink()
        (self.folder / PLAN).unlink()

    def _index(self, shard: int) -> Path:
        """The part of the index for a shard, which is written once the shard is complete."""
        return self.folder / f"shard-{shard:05}.npy"

    def _faults(self, shard: int) -> Path:
        return self.folder / f"shard-{shard:05}.json"


def _add(file: BinaryIO, name: str, one: Entry) -> int:
    """Add an image to an archive; return where its file, or its first pixel, begins."""
    member = tarfile.TarInfo(name)
    member.size = len(one.content)
    file.write(member.tobuf(tarfile.GNU_FORMAT, errors="surrogateescape"))
    begin = file.tell() + one.header
    file.write(one.content)
    file.write(bytes(-len(one.content) % tarfile.BLOCKSIZE))
    return begin


@contextlib.contextmanager
def _shown_progress(images: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, else a line of the log now and then; yields what counts images."""
    console = Console(stderr=True)
    if console.is_terminal:
        columns = TextColumn("packing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("packing", total=images)
            yield lambda number: progress.advance(task, number)
        return
    done, last = 0, time.monotonic()

    def advance(number: int) -> None:
        nonlocal done, last
        done += number
        if time.monotonic() > last + LOG_S:
            last = time.monotonic()
            log.info("packed %d of %d images", done, images)

    yield advance
