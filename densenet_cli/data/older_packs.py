"""What other packs hold already, so that a new pack need not decode the same images again."""

from __future__ import annotations

import contextlib
import glob
import itertools
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np

from densenet_cli.data.pack import (
    FACTS,
    INDEX,
    MOST_OPEN,
    ROW,
    Packing,
    is_pack,
    read_facts,
    shard_name,
)
from densenet_cli.data.pack_entry import Entry, packed_entry
from densenet_cli.data.pack_shard import Part, parts
from densenet_cli.files.lock import lock_folder
from densenet_cli.files.plain_file import read_json
from densenet_cli.options import UserError

ENDING = ".pack"
PLAN = "plan.json"  # of an unfinished pack: what it will hold


class OlderPacks(contextlib.ExitStack):
    """Images that were packed before, found by the content of their files.

    Within its context the shards are open, so that what is found stays there when a pack is deleted.

    Args:
        shards: of other packs, all of which were packed in the same way; the first ones are used, as
            many as a process can keep open.
        max_pixels: larger images are not found; None: all are.
    """

    def __init__(self, shards: Iterable[Part], max_pixels: int | None) -> None:
        super().__init__()
        self._files, parts = [], [np.empty(0, ROW)]
        for path, index in itertools.islice(shards, MOST_OPEN):
            with contextlib.suppress(FileNotFoundError):  # somebody is deleting it
                self._files.append(self.enter_context(path.open("rb")))
                parts.append(index)
        rows = np.concatenate(parts)
        files = np.repeat(np.arange(len(self._files)), [len(index) for index in parts[1:]])
        is_there = (rows["length"] > 0) & (rows["pixels"] <= (max_pixels or np.inf))
        rows, files = rows[is_there], files[is_there]
        order = np.argsort(rows["digest"])
        self._rows, self._places = rows[order], files[order]
        self._digests = np.ascontiguousarray(self._rows["digest"])

    def entry(self, path: str, digest: int, size: int) -> Entry | None:
        """An image as an older pack holds it; None if none does.

        Args:
            path, digest, size: of its file; see `pack.ROW`.
        """
        place = int(np.searchsorted(self._digests, np.uint64(digest)))
        if place == len(self._rows):
            return None
        row = self._rows[place]
        if row["digest"] != digest or row["size"] != size:
            return None
        length, file = int(row["length"]), self._files[self._places[place]]
        content = os.pread(file.fileno(), length, int(row["offset"]))
        return packed_entry(path, row, content) if len(content) == length else None


def packs_in(folder: Path, pattern: str = f"*{ENDING}") -> list[Path]:
    """The packs in a folder, complete or not."""
    found = sorted(folder.glob(pattern))
    return [one for one in found if is_pack(one) or (one / PLAN).is_file()]


def shards_beside(folder: Path, packing: Packing) -> Iterator[Part]:
    """The shards of the other packs beside one that were packed in the same way, the last one first."""
    for other in sorted(packs_in(folder.parent), key=_made, reverse=True):
        if other != folder:
            # One that is damaged, or that somebody is deleting, is no concern of this pack.
            with contextlib.suppress(OSError, EOFError, ValueError, KeyError, UserError):
                yield from _shards_of(other, packing)


def _made(folder: Path) -> float:
    with contextlib.suppress(FileNotFoundError):
        return folder.stat().st_mtime
    return 0


def _shards_of(folder: Path, packing: Packing) -> Iterator[Part]:
    is_complete = is_pack(folder)
    facts = read_facts(folder) if is_complete else read_json(folder / PLAN)
    if facts["packing"] != asdict(packing):
        return
    if not is_complete:
        yield from parts(folder)
        return
    index = np.load(folder / INDEX, allow_pickle=False)
    ends = np.searchsorted(index["shard"], np.arange(len(facts["shards"])), side="right")
    for shard, rows in enumerate(np.split(index, ends[:-1])):
        yield folder / shard_name(shard), rows


def delete_unfinished(folder: Path, name: str, packing: Packing, root: str) -> None:
    """Delete what was begun of packs of earlier states of the same images, unless it is in use.

    Packs that the user has named are kept.

    Args:
        folder: in which the packs are.
        name: of the images, with which the names of the packs begin.
        packing: how the images were packed.
        root: the folder of the images.
    """
    for one in packs_in(folder, pack_name(glob.escape(name), "*", packing)):
        deleted = one.with_name(f".{one.name}.deleted-{secrets.token_hex(4)}")
        with contextlib.suppress(OSError, KeyError, UserError):  # it is in use, or is complete now
            if (one / FACTS).exists() or read_json(one / PLAN)["root"] != root:
                continue
            with lock_folder(one):
                one.rename(deleted)
            shutil.rmtree(deleted)


def pack_name(name: str, key: str, packing: Packing) -> str:
    """The name of the folder of a pack."""
    return f"{name}-{key}-{packing}{ENDING}"


def pack_bytes(folder: Path) -> int:
    """What a pack takes on the disk."""
    sizes = []
    with contextlib.suppress(FileNotFoundError):  # somebody is deleting it
        sizes += [path.stat().st_size for path in folder.iterdir()]
    return sum(sizes)
