"""Which image files the cells of a table name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from densenet_cli.data.image_files import LeftOut, image_files
from densenet_cli.data.photo import endings

SAMPLE = 50  # names by which it is decided how the names of a column are to be read
ANYWHERE = "*/"  # in front of a name: in any folder


class NamedImages:
    """Finds image files by names as tables have them.

    A name is a path in the folder, or an absolute one. All names of a column may begin with folders
    that are not in this one, as CheXpert's "CheXpert-v1.0/train/...". A name without folders, as NIH's,
    whose images are in twelve, may be in any folder in it. The ending of the file may be missing, as
    from ISIC's "ISIC_0024306".

    Args:
        folder: it is searched only if a name is not a path.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._indices: dict[bool, dict[str, tuple[str, ...]]] = {}

    def find(self, names: Sequence[str]) -> list[tuple[str, ...]]:
        """The file of each name: none if it is missing, the first two if it may mean several.

        Raises:
            OSError: if a folder cannot be read.
        """
        names = [name.replace("\\", "/") for name in names]
        sample = [name for name in names if "/" in name][:SAMPLE]
        longest = max((len(PurePosixPath(name).parts) for name in sample), default=1)
        found = [sum(bool(self._find(name, k)) for name in sample) for k in range(longest)]
        surplus = found.index(max(found))
        return [self._find(name, surplus) for name in names]

    def _find(self, name: str, surplus: int) -> tuple[str, ...]:
        """The files of a name without its first `surplus` parts."""
        inner = "/".join(PurePosixPath(name).parts[surplus:]) if surplus and "/" in name else name
        if not inner:
            return ()
        path = os.path.join(self.folder, inner)
        if os.path.isfile(path):
            return (path,)
        has_ending = os.path.splitext(name)[1].lower() in endings()
        if "/" not in name:
            return self._index(has_ending).get(ANYWHERE + name, ())
        return () if has_ending else self._index(False).get(inner, ())

    def _index(self, with_ending: bool) -> dict[str, tuple[str, ...]]:
        """All files by their path in the folder, and by their name alone; two at most of each."""
        if with_ending not in self._indices:
            index = self._indices[with_ending] = {}
            begin = len(os.path.join(self.folder, ""))
            for path in image_files(self.folder, LeftOut()):
                inner = path[begin:].replace(os.sep, "/")
                inner = inner if with_ending else os.path.splitext(inner)[0]
                for key in (inner, ANYWHERE + inner.rpartition("/")[2]):
                    found = index.get(key, ())
                    if len(found) < 2:
                        index[key] = (*found, path)
        return self._indices[with_ending]
