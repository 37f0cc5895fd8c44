"""Make a pack once: on all cores, resumed after a kill, by one process while others wait."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import logging
import os
import secrets
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from densenet_cli.data.dark_images import warn_of_dark_images
from densenet_cli.data.file_list import Paths
from densenet_cli.data.image_check import Examined, faults_message
from densenet_cli.data.image_data import usable_cores
from densenet_cli.data.older_packs import (
    PLAN,
    OlderPacks,
    delete_unfinished,
    pack_bytes,
    packs_in,
    shards_beside,
)
from densenet_cli.data.pack import (
    FACTS,
    FORMAT,
    INDEX,
    LABELS,
    NAMES,
    VERSION,
    Pack,
    Packing,
    is_pack,
)
from densenet_cli.data.pack_entry import Entry, entry
from densenet_cli.data.pack_shard import Shard, parts
from densenet_cli.data.photo import limit_pixels
from densenet_cli.data.photo_split import Files
from densenet_cli.files.atomic_file import replace_file
from densenet_cli.files.lock import FolderInUse, lock_folder
from densenet_cli.files.plain_file import read_json
from densenet_cli.options import OptionError, UserError
from densenet_cli.plain_text import printable
from densenet_cli.units import memory

log = logging.getLogger(__name__)
SHARD_IMAGES = 8192  # part of the format
SAMPLE = 32  # images from which the size of the pack is estimated
TELL_S = 60  # between two lines about the progress, where there is no terminal


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

    @property
    def root(self) -> str:
        """The folder of the images, absolute."""
        return os.path.abspath(os.path.expanduser(self.typed))

    @property
    def folder_name(self) -> str:
        """The last part of it."""
        return os.path.basename(self.root)

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

    Images that other packs in the same folder hold already are copied from there.

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
        with _locked_or_complete(folder) as check:
            if check is not None:
                _Maker(folder, what, packing, check).make(max_pixels, skip_broken)
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        remedy = "free space there and start again, which continues, or " if is_full else ""
        place, why = error.filename or folder, error.strerror or error
        rule = f"{place} cannot be written ({why}); {remedy}name another place"
        raise OptionError("pack", folder, rule, f"/path/{folder.name}") from error
    return Pack(folder)


@contextlib.contextmanager
def _locked_or_complete(folder: Path) -> Iterator[Callable[[], None] | None]:
    """Lock the folder, and yield the lock's check; None once another process has made the pack."""
    with contextlib.ExitStack() as stack:
        check, is_told = None, False
        while check is None and not is_pack(folder):
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()  # if this fails, a lock would wait forever
            try:
                check = stack.enter_context(lock_folder(folder))
            except FolderInUse:
                if not is_told:
                    log.warning("waiting: another process is packing the images to %s", folder)
                is_told = True
                time.sleep(0.5)
        yield None if is_pack(folder) else check


class _Maker:
    """Makes one pack; the folder is locked for it.

    While it is made there are, beside the shards:

        plan.json      which images it will hold, how they are packed, and the limit of their pixels
        shard-00000.*  see `pack_shard`
        older-*        shards that cannot be continued, since images in them were broken or have
                       changed; the others are copied from there
    """

    def __init__(
        self, folder: Path, what: Packable, packing: Packing, check: Callable[[], None]
    ) -> None:
        self.folder, self.what, self.packing, self.check = folder, what, packing, check
        self.images = len(what.files.labels)
        begins = range(0, self.images, SHARD_IMAGES)
        self.parts = [range(begin, min(begin + SHARD_IMAGES, self.images)) for begin in begins]
        self.copies = 0

    def make(self, max_pixels: int | None, skip_broken: bool) -> None:
        """Write what the shards lack, then the index, then pack.json."""
        warn_of_dark_images(self.what.files.paths)
        self._begin(max_pixels, skip_broken)
        shards = [
            Shard(self.folder, number, rows, self.check) for number, rows in enumerate(self.parts)
        ]
        lacking = [row for shard in shards for row in shard.lacking]
        done = self.images - len(lacking)
        older = [*parts(self.folder, "older"), *shards_beside(self.folder, self.packing)]
        with OlderPacks(older, max_pixels) as self.older, ThreadPoolExecutor(usable_cores()) as pool:
            self._check_space(pool, lacking)
            begun = f"; {done:,} of them are packed already" if done else ""
            images = f"{self.images:,} images of {self.what.typed}"
            log.warning("packing %s to %s%s", images, self.folder, begun)
            faults: dict[int, Entry] = {}
            with _shown_progress(self.images) as advance:
                advance(done)
                for shard in shards:
                    if shard.lacking:
                        faults |= self._write(shard, pool, advance)
        if faults:
            examined = [
                Examined(f"{printable(self.what.files.paths[row])}: {one.fault}", one.needed)
                for row, one in faults.items()
            ]
            message = faults_message(examined, images, max_pixels, skip_broken)
            if not skip_broken:
                raise UserError(message)
            log.warning("%s", message)
        self._complete(shards)
        what = self.what
        delete_unfinished(self.folder.parent, what.folder_name, self.packing, what.root)
        self._tell()

    def _begin(self, max_pixels: int | None, skip_broken: bool) -> None:
        """Begin a pack, or continue one; what is there of other images is kept to copy from it.

        Images that were broken before are read again, unless they are to be left out. Under another
        limit they are read again in any case: they may have been too large.
        """
        before = self._plan()
        packing = asdict(self.packing)
        kept = []
        if before.get("packing") == packing:
            kept = [*parts(self.folder, "older"), *parts(self.folder, "shard")]
        whole = {path.stem for path, _ in kept}
        for path in [*self.folder.glob("shard-*"), *self.folder.glob("older-*")]:
            if path.stem not in whole:  # packed otherwise; or a kill came before the first rows
                path.unlink()
        is_same = before.get("key") == self.what.key
        leaves_out = skip_broken and before.get("max_pixels", ...) == max_pixels
        for archive, index in kept:
            if archive.stem.startswith("shard") and not (
                is_same and self._continues(archive, index, leaves_out)
            ):
                self._set_aside(archive)
        plan = {"root": self.what.root, "key": self.what.key, "packing": packing}
        replace_file(self.folder / PLAN, json.dumps(plan | {"max_pixels": max_pixels}))

    def _plan(self) -> dict[str, Any]:
        """What was begun in the folder; nothing if it is empty. Raises OptionError if it is no pack."""
        for partial in self.folder.glob(".*.partial*"):  # of processes that were killed
            partial.unlink()
        try:
            return dict(read_json(self.folder / PLAN))
        except FileNotFoundError:
            if others := sorted(path.name for path in self.folder.glob("[!.]*")):
                rule = f"holds {others[0]} and no pack; delete the folder, or name another one"
                raise OptionError("pack", self.folder, rule, "/path/new.pack") from None
            return {}

    def _continues(self, archive: Path, index: np.ndarray, leaves_out: bool) -> bool:
        """Whether a shard has all its images, or leaves some out, and their files are as they were."""
        begin = self.parts[int(archive.stem.rpartition("-")[2])].start
        stamps = np.stack([index["size"], index["time"]], axis=1)
        is_same = np.array_equal(stamps, self.what.files.stamps[begin : begin + len(index)])
        return is_same and (leaves_out or bool(index["length"].all()))

    def _set_aside(self, archive: Path) -> None:
        name = f"older-{secrets.token_hex(4)}"
        for path in (archive, archive.with_suffix(".npy")):
            path.replace(self.folder / f"{name}{path.suffix}")

    def _check_space(self, pool: ThreadPoolExecutor, rows: list[int]) -> None:
        """Raise OptionError if the disk has less space than these images are likely to take."""
        sample = rows[:: max(1, len(rows) // SAMPLE)]
        sizes = [len(one.content) + 1024 for one in pool.map(self._entry, sample) if not one.fault]
        needed = int(np.mean(sizes) * len(rows)) if sizes else 0
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            rule = f"needs some {memory(needed)}, and {memory(free)} are free; name another place"
            others = [one for one in packs_in(self.folder.parent) if one != self.folder]
            if others:
                packs = f"packs in {self.folder.parent} that no run needs"
                rule += f", or delete {packs}: they take {memory(sum(map(pack_bytes, others)))}"
            raise OptionError("pack", self.folder, rule, f"/path/{self.folder.name}")

    def _write(
        self, shard: Shard, pool: ThreadPoolExecutor, advance: Callable[[int], None]
    ) -> dict[int, Entry]:
        """Write what a shard lacks; return the images that are broken."""
        rows, stamps, faults = shard.lacking, self.what.files.stamps, {}
        with shard.opened():
            for row, one in zip(rows, self._entries(rows, pool), strict=True):
                shard.add(self.what.names[row], one, stamps[row])
                if one.fault:
                    faults[row] = one
                self.copies += one.is_copy
                advance(1)
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
        return entry(self.what.files.paths[row], self.packing, self.older.entry)

    def _complete(self, shards: list[Shard]) -> None:
        """Join the rows, and write pack.json, which makes the pack a pack."""
        index = np.concatenate([shard.index for shard in shards])
        broken: dict[str, str] = {}
        for shard in shards:
            broken |= shard.broken
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
            "shards": [shard.path.stat().st_size for shard in shards],
            "broken": broken,
        }
        for path in self.folder.glob("older-*"):
            path.unlink()
        replace_file(self.folder / FACTS, json.dumps(facts, indent=1))
        for shard in shards:
            for ending in (".npy", ".json"):
                shard.path.with_suffix(ending).unlink()
        (self.folder / PLAN).unlink()

    def _tell(self) -> None:
        """Say how large the pack is, and all packs beside it."""
        copied = f", {self.copies:,} of them copied from other packs" if self.copies else ""
        log.info("packed %d images%s: %s", self.images, copied, memory(pack_bytes(self.folder)))
        packs = packs_in(self.folder.parent)
        if len(packs) > 1:
            total = memory(sum(map(pack_bytes, packs)))
            place = self.folder.parent
            log.warning(
                "%s: %d packs take %s; delete those that no run needs", place, len(packs), total
            )


@contextlib.contextmanager
def _shown_progress(images: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, else a line now and then; yields what counts images."""
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
        if time.monotonic() > last + TELL_S:
            last = time.monotonic()
            log.warning("packed %s of %s images", f"{done:,}", f"{images:,}")

    yield advance
