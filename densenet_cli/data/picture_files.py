"""Which files in a folder are pictures, and what else lies there and is left out."""

from __future__ import annotations

import logging
import os
from collections import Counter
from pathlib import Path

from densenet_cli.data.photo import endings
from densenet_cli.plain_text import printable

log = logging.getLogger(__name__)

# Folders and files that systems put beside pictures, in small letters: thumbnails and waste bins of
# NAS systems, what macOS and Windows keep of a folder. Names that begin with a dot are left out anyway.
OF_SYSTEMS = {
    *("@eadir", "@recycle", "@recently-snapshot", "@tmp", "#recycle", "#snapshot", "$recycle.bin"),
    *("__macosx", "lost+found", "system volume information", "thumbs.db", "ehthumbs.db", "desktop.ini"),
}
NAMED = 8  # endings and names in one message; more would hide it

OTHER = "files of other kinds"
HIDDEN = "hidden files, and files and folders of the system"
SPECIAL = "pipes, sockets and devices"
MET = "links to folders that are searched anyway"
NOWHERE = "links to nothing"
OUTSIDE = "pictures in no class folder"
BESIDE = "folders beside those of the splits"
KINDS = (OTHER, OUTSIDE, BESIDE, MET, NOWHERE, SPECIAL, HIDDEN)


class LeftOut:
    """What lies in folders of pictures and is not taken: how many of each kind, and their names."""

    def __init__(self) -> None:
        self._found: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}

    def add(self, kind: str, name: str) -> None:
        """Note one thing: its kind (OTHER, HIDDEN, ...) and its name or, of a file, its ending."""
        self._found[kind][name] += 1

    def __str__(self) -> str:
        """As "files of other kinds: 12 (.txt 8, .csv 4); links to nothing: 1 (a/b)"; else empty."""
        return "; ".join(
            f"{kind}: {names.total()} ({_listed(names)})"
            for kind, names in self._found.items()
            if names
        )

    def say(self, root: object) -> None:
        """Warn once of all that was left out below `root`, if anything was."""
        if text := str(self):
            log.warning("%s: left out: %s", printable(str(root)), text)


def image_files(folder: Path, left_out: LeftOut, met: set[tuple[int, int]] | None = None) -> list[str]:
    """All images in a folder and the folders in it, sorted.

    Links are followed, but no folder is searched twice, nor one that this one lies in. An image is a
    regular file whose ending is one of `photo.endings`; a link with such an ending that leads to
    nothing counts too, as a broken one.

    Args:
        folder: where to begin.
        left_out: takes what is not an image.
        met: folders (see `place`) that are not to be searched; those searched are added.

    Raises:
        OSError: if a folder cannot be read.
    """
    met = set() if met is None else met
    met |= above(folder)
    paths: list[str] = []
    waiting = [str(folder)]
    while waiting:
        for entry in entries(waiting.pop(), left_out):
            if not is_folder(entry):
                if is_image(entry, left_out):
                    paths.append(entry.path)
            elif place(entry.path) in met:
                left_out.add(MET, entry.path)
            else:
                met.add(place(entry.path))
                waiting.append(entry.path)
    return sorted(paths)


def entries(folder: str | Path, left_out: LeftOut) -> list[os.DirEntry[str]]:
    """What lies in a folder, sorted by name, without what is hidden or of the system."""
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
    """Whether it is a folder or a link to one; only links are looked up."""
    return entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(entry.path))


def is_image(entry: os.DirEntry[str], left_out: LeftOut) -> bool:
    """Whether something that is no folder is an image; if not, it is noted."""
    ending = os.path.splitext(entry.name)[1].lower()
    is_broken = entry.is_symlink() and not os.path.exists(entry.path)
    if ending not in endings():
        left_out.add(*((NOWHERE, entry.path) if is_broken else (OTHER, ending or "no ending")))
        return False
    if entry.is_file(follow_symlinks=False) or is_broken or os.path.isfile(entry.path):
        return True
    left_out.add(SPECIAL, entry.path)
    return False


def place(folder: str | Path) -> tuple[int, int]:
    """Device and inode: equal for all names of one folder."""
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def above(folder: Path) -> set[tuple[int, int]]:
    """The places of a folder and of all that it lies in."""
    whole = folder.resolve()
    return {place(path) for path in (whole, *whole.parents)}


def _listed(names: Counter[str]) -> str:
    parts = [
        printable(name) + (f" {count}" if count > 1 else "") for name, count in names.most_common(NAMED)
    ]
    more = len(names) - len(parts)
    return ", ".join([*parts, f"and {more} more"] if more else parts)
