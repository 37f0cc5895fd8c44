"""Packs: all images of a data set in a few large files, any of which is read without the others.

A pack is a folder, by habit NAME.pack, of files that need no program of ours:

    pack.json         what was packed and how; it is written last, so without it there is no pack
    index.npy         a row for each image, see ROW; numpy.load reads it
    names             their paths in the folder that was packed, each with a zero byte at its end
    labels.npy        of a folder of classes: the index of each image's class
    shard-00000.tar   the images themselves, 8192 in each tar archive but the last

Images that were not resized are in the archives as the files that they were, resized ones are JPEG
files. Or all are raw pixels, as portable pixmaps (.ppm; of grey images .pgm). They are where index.npy
says. A raw image can be read by

    row = numpy.load("index.npy", mmap_mode="r")[7]
    shard = numpy.memmap(f"shard-{row['shard']:05}.tar", mode="r", offset=row["offset"])
    pixels = shard[: row["length"]].reshape(row["height"], row["width"], row["channels"])

Images that were not resized train a network as those of the folder do, bit for bit; but a large JPEG
file, which `photo` decodes at a fraction of its size, gives other pixels than the raw image, by a few
levels of 255.

The archives are shards as WebDataset reads them in sequence; the index lets them be read in any order.
Several processes, and those of other machines that share a disk, share one copy of a pack, and one copy
of what they have read of it on each machine. Files are read rather than mapped into memory: when a disk
fails, that is an error with a name, where a process with a mapped file would be killed.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from densenet_cli.data.file_list import Paths
from densenet_cli.data.photo_split import Files
from densenet_cli.data.picture import Picture
from densenet_cli.files.plain_file import UnreadableFile, read_json
from densenet_cli.options import UserError, whole_number

FORMAT, VERSION = "densenet-cli pack", 1
RAW = "raw"
FACTS, INDEX, NAMES, LABELS = "pack.json", "index.npy", "names", "labels.npy"
MOST_OPEN = 200  # shards that a process keeps open; systems allow 256 files or more
ROW = np.dtype(
    [
        ("shard", "<u4"),
        ("offset", "<u8"),  # of the file, or of the first pixel, in the shard
        ("length", "<u8"),  # in bytes; 0: the image is broken and was left out
        ("height", "<u4"),
        ("width", "<u4"),
        ("channels", "<u4"),  # of raw pixels, 3 or 1; 0: a file of some format
        ("pixels", "<u8"),  # of the image that was packed
        ("digest", "<u8"),  # of the content of its file: blake2b of 8 bytes, the lowest first
        ("size", "<i8"),  # of its file, in bytes
        ("time", "<i8"),  # of the last change of its file, in ns since 1970
    ]
)


@dataclass(frozen=True)
class Packing:
    """How images are packed.

    Attributes:
        size: the shorter side of larger images is resized to so many pixels; None: none is resized.
        quality: of the JPEG files of resized images, 1 to 100; or "raw": all are packed as pixels.
    """

    size: int | None = 256
    quality: int | str = 90

    def __str__(self) -> str:
        size = "whole" if self.size is None else str(self.size)
        if self.quality == RAW:
            return f"{size}-raw"
        return size if self.size is None else f"{size}-jpeg{self.quality}"


@dataclass(frozen=True)
class PackedPixels:
    """The raw pixels of an image in a pack; see `picture.Pixels`."""

    pack: Pack
    row: np.void

    @property
    def height(self) -> int:
        """In pixels."""
        return int(self.row["height"])

    @property
    def width(self) -> int:
        """In pixels."""
        return int(self.row["width"])

    def rows(self, top: int, bottom: int) -> np.ndarray:
        """Some rows; the others are not read."""
        channels = int(self.row["channels"])
        stride = self.width * channels
        begin, length = int(self.row["offset"]) + top * stride, (bottom - top) * stride
        content = self.pack.read(int(self.row["shard"]), begin, length)
        shape = (bottom - top, self.width, channels)
        return np.frombuffer(content, np.uint8).reshape(shape[:2] if channels == 1 else shape)


class Pack:
    """A pack that is complete.

    Args:
        folder: of the pack.

    Attributes:
        facts: the content of pack.json.
        packing: how its images are packed.
        paths: of the images, relative to the folder that was packed.
        index: (n,) ROW, mapped into memory.

    Raises:
        UserError: if it is damaged, or of a later version.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[int, int] = {}
        self.facts = read_facts(folder)
        self.packing = Packing(**self.facts["packing"])
        number = self.facts["images"]
        try:
            self.index = np.asarray(np.load(folder / INDEX, mmap_mode="r", allow_pickle=False))
            self.paths = Paths.of((folder / NAMES).read_bytes())
            for shard, size in enumerate(self.facts["shards"]):
                if self._shard(shard).stat().st_size != size:
                    raise ValueError(f"{self._shard(shard).name} does not have {size:,} bytes")
        except (OSError, ValueError) as error:
            raise _damaged(folder, error) from error
        if self.index.dtype != ROW or self.index.shape != (number,) or len(self.paths) != number:
            raise _damaged(folder, "its files do not belong together")

    def __len__(self) -> int:
        return len(self.index)

    def digest(self) -> str:
        """Of the images in it: that of the folder that was packed, unless images were resized."""
        if self.packing.size is None:
            return self.facts["digest"]
        text = f"{self.facts['digest']} {self.packing}"
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def rows(self, paths: Paths, root: Path) -> np.ndarray:
        """Where images are in the pack, (n,) int64.

        Args:
            paths: of their files, or some of `self.paths`.
            root: the folder that was packed.

        Raises:
            KeyError: if the pack lacks one.
        """
        return paths.places_in(self.paths, root)

    def files(self) -> dict[str, Files]:
        """All images of "train", "validation" and "test", or of "all", as if they were files.

        Raises:
            UserError: if it is not a folder of classes that was packed.
        """
        if self.facts["splits"] is None:
            raise UserError(f"{self.folder}: the pack has no classes; name the table of its images too")
        labels = np.load(self.folder / LABELS, allow_pickle=False)
        stamps = np.stack([self.index["size"], self.index["time"]], axis=1)
        files, begin = {}, 0
        for split, number in self.facts["splits"].items():
            part = slice(begin, begin + number)
            files[split] = Files(self.paths.chosen(part), labels[part], stamps[part])
            begin += number
        return files

    def picture(self, row: int) -> Picture:
        """The image of a row. Raises OSError or ValueError if it cannot be read."""
        entry = self.index[row]
        if entry["length"] == 0:
            raise ValueError(self.facts["broken"][str(row)])
        if entry["channels"]:
            return PackedPixels(self, entry)
        return self.read(int(entry["shard"]), int(entry["offset"]), int(entry["length"]))

    def read(self, shard: int, offset: int, length: int) -> bytes:
        """Some bytes of a shard. Raises OSError, also if there are fewer."""
        known = self._files.get(shard)
        descriptor = os.open(self._shard(shard), os.O_RDONLY) if known is None else known
        try:
            content = os.pread(descriptor, length, offset)
            while len(content) < length:
                if not (more := os.pread(descriptor, length - len(content), offset + len(content))):
                    raise OSError(errno.EIO, "the file has become shorter", str(self._shard(shard)))
                content += more
            return content
        finally:
            if known is None:
                self._keep(shard, descriptor)

    def _keep(self, shard: int, descriptor: int) -> None:
        """Keep a file open, unless many are, or another thread has opened it at the same time."""
        if len(self._files) >= MOST_OPEN or self._files.setdefault(shard, descriptor) != descriptor:
            os.close(descriptor)

    def close(self) -> None:
        """Close its files."""
        while self._files:
            os.close(self._files.popitem()[1])

    def __del__(self) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder}  # for a process that does not share this one's memory

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def _shard(self, number: int) -> Path:
        return self.folder / shard_name(number)


class PackSource:
    """Images of a pack, as a split reads them; see `photo_split.Source`.

    Args:
        pack: the pack.
        rows: (n,) int64, those of the images.
        labels: of the images.
    """

    def __init__(self, pack: Pack, rows: np.ndarray, labels: np.ndarray) -> None:
        self.pack, self.rows, self.labels = pack, rows, labels

    def name(self, index: int) -> str:
        """The path of an image when it was packed, after that of the pack."""
        return os.path.join(self.pack.folder, self.pack.paths[int(self.rows[index])])

    def picture(self, index: int) -> Picture:
        """The image; see `Pack.picture`."""
        return self.pack.picture(int(self.rows[index]))


class PackedPath(str):
    """The path of an image in a pack, as messages show it: that of the pack, then that when packed."""

    pack: Pack
    row: int

    @classmethod
    def all(cls, pack: Pack, rows: Iterable[int]) -> list[PackedPath]:
        """Those of some rows."""
        paths = []
        for row in rows:
            path = cls(os.path.join(pack.folder, pack.paths[row]))
            path.pack, path.row = pack, row
            paths.append(path)
        return paths

    def picture(self) -> Picture:
        """The image; see `Pack.picture`."""
        return self.pack.picture(self.row)


def is_pack(folder: Path) -> bool:
    """Whether a folder is a pack, which is complete."""
    return (folder / FACTS).is_file()


def read_facts(folder: Path) -> dict[str, Any]:
    """The content of pack.json. Raises UserError if it is none, or that of a later version."""
    try:
        facts = read_json(folder / FACTS)
    except (FileNotFoundError, UnreadableFile) as error:
        raise _damaged(folder, error) from error
    if not isinstance(facts, Mapping) or facts.get("format") != FORMAT:
        raise _damaged(folder, f"{FACTS} is not that of a pack")
    if whole_number("version", facts["version"], VERSION) > VERSION:
        raise UserError(
            f"{folder}: the pack is of version {facts['version']}, and this program reads version "
            f"{VERSION} at most; use a later densenet-cli, or pack the images again"
        )
    return dict(facts)


def shard_name(number: int) -> str:
    """The file of a shard."""
    return f"shard-{number:05}.tar"


def _damaged(folder: Path, reason: object) -> UserError:
    return UserError(
        f"{folder}: the pack cannot be read ({reason}); delete it and pack the images again"
    )
