"""Which files in a folder are images, and which other files and folders are left out."""

from __future__ import annotations

import logging
import os
from collections import Counter
from pathlib import Path

from densenet_cli.data.photo import endings
from densenet_cli.plain_text import printable

log = logging.getLogger(__name__)

# Names in lower case that operating systems put beside images: thumbnails and recycle bins of NAS
# systems, folder settings of macOS and Windows. Names that begin with a dot are always left out.
OF_SYSTEMS = {
    *("@eadir", "@recycle", "@recently-snapshot", "@tmp", "#recycle", "#snapshot", "$recycle.bin"),
    *("__macosx", "lost+found", "system volume information", "thumbs.db", "ehthumbs.db", "desktop.ini"),
}
NAMED = 8  # at most so many endings or names in one message

OTHER = "files of other kinds"
HIDDEN = "hidden files, and files and folders of the system"
SPECIAL = "pipes, sockets and devices"
SEARCHED = "links to folders that are searched anyway"
NOWHERE = "links to nothing"
OUTSIDE = "images in no class folder"
BESIDE = "folders beside those of the splits"
KINDS = (OTHER, OUTSIDE, BESIDE, SEARCHED, NOWHERE, SPECIAL, HIDDEN)


class LeftOut:
    """What was left out of folders of images: the number and the names of each kind."""

    def __init__(self) -> None:
        self._found: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}

    def add(self, kind: str, name: str) -> None:
        """Add one: its kind (OTHER, HIDDEN, ...) and its name, or the ending of a file's name."""
        self._found[kind][name] += 1

    def __str__(self) -> str:
        """For example "files of other kinds: 12 (.txt 8, .csv 4); links to nothing: 1 (a/b)"."""
        return "; ".join(
            f"{kind}: {names.total()} ({_listed(names)})"
            for kind, names in self._found.items()
            if names
        )

    def warn(self, root: object) -> None:
        """Log one warning about all that was left out below `root`, if anything was."""
        if text := str(self):
            log.warning("%s: left out: %s", printable(str(root)), text)


def image_files(
    folder: Path, left_out: LeftOut, searched: set[tuple[int, int]] | None = None
) -> list[str]:
    """All images in a folder and the folders in it, sorted.

    Links are followed, but no folder is searched twice, and no parent of this one. An image is a
    regular file with one of the endings of `photo.endings`; a dangling link with such an ending counts
    as a broken image.

    Args:
        folder: where to start.
        left_out: what is not an image is added to it.
        searched: folders (see `place`) that must not be searched; those searched are added to it.

    Raises:
        OSError: if a folder cannot be read.
    """
    searched = set() if searched is None else searched
    searched |= parents(folder)
    paths: list[str] = []
    waiting = [str(folder)]
    while waiting:
        for entry in entries(waiting.pop(), left_out):
            if not is_folder(entry):
                if is_image(entry, left_out):
                    paths.append(entry.path)
            elif place(entry.path) in searched:
                left_out.add(SEARCHED, entry.path)
            else:
                searched.add(place(entry.path))
                waiting.append(entry.path)
    return sorted(paths)


def entries(folder: str | Path, left_out: LeftOut) -> list[os.DirEntry[str]]:
    """The entries of a folder, sorted by name, without hidden ones and those of the system."""
    with os.scandir(folder) as found:
        all_entries = sorted(found, key=lambda entry: entry.name)
    kept = []
    for entry in all_entries:
        if entry.name.startswith(".") or entry.name.lower() in OF_SYSTEMS:
            left_out.add(HIDDEN, entry.name)
        else:
            kept.append(entry)
    return kept


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder or a link to one. Only links cost a call to the system."""
    return entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(entry.path))


def is_image(entry: os.DirEntry[str], left_out: LeftOut) -> bool:
    """Whether an entry that is no folder is an image; if not, it is added to `left_out`."""
    dot = entry.name.rfind(".")
    ending = entry.name[dot:].lower() if dot > 0 else ""
    is_broken = entry.is_symlink() and not os.path.exists(entry.path)
    if ending not in endings():
        left_out.add(*((NOWHERE, entry.path) if is_broken else (OTHER, ending or "no ending")))
        return False
    if entry.is_file(follow_symlinks=False) or is_broken or os.path.isfile(entry.path):
        return True
    left_out.add(SPECIAL, entry.path)
    return False


def place(folder: str | Path) -> tuple[int, int]:
    """Device and inode: the same for all names of one folder."""
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def parents(folder: Path) -> set[tuple[int, int]]:
    """The places of a folder and of all its parents."""
    whole = folder.resolve()
    return {place(path) for path in (whole, *whole.parents)}


def _listed(names: Counter[str]) -> str:
    parts = [
        printable(name) + (f" {count}" if count > 1 else "") for name, count in names.most_common(NAMED)
    ]
    more = len(names) - len(parts)
    return ", ".join([*parts, f"and {more} more"] if more else parts)
