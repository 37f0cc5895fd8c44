"""The images that a run skips because they cannot be read."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

log = logging.getLogger(__name__)

NO_IMAGE = -1  # the label in place of a skipped image
NAMED = 20  # at most so many warnings


@dataclass(frozen=True)
class Unread:
    """An image that cannot be read.

    Attributes:
        split: "train", "validation" or "test".
        name: of its file, printable.
        reason: why.
    """

    split: str
    name: str
    reason: str


class Skipped:
    """The images skipped so far.

    Attributes:
        found: split -> name -> reason.
        on_new: called when more are found.
        warns: whether to warn of each image.
    """

    def __init__(self) -> None:
        self.found: dict[str, dict[str, str]] = {}
        self.on_new: Callable[[], None] = lambda: None
        self.warns = True
        self._named = 0

    def add(self, unread: Iterable[Unread]) -> None:
        """Add images, and warn of those that are new."""
        new = [one for one in unread if one.name not in self.found.get(one.split, {})]
        for one in new:
            self.found.setdefault(one.split, {})[one.name] = one.reason
            if self.warns:
                self._warn(one)
        if new:
            self.on_new()

    def _warn(self, one: Unread) -> None:
        self._named += 1
        if self._named <= NAMED:
            log.warning("%s is skipped: it cannot be read (%s)", one.name, one.reason)
        elif self._named == NAMED + 1:
            log.warning("more images are skipped; skipped.json names all of them")

    def add_found(self, found: Mapping[str, Mapping[str, str]]) -> None:
        """Add the images that another process has found."""
        self.add(
            Unread(split, name, reason)
            for split, names in found.items()
            for name, reason in names.items()
        )


def were_read(labels: Tensor) -> Tensor:
    """Which images were read, by their labels (n,) or (n, classes): (n,) bool."""
    return labels.view(len(labels), -1).ne(NO_IMAGE).any(1)


def is_fault_of_image(error: Exception, name: str) -> bool:
    """Whether reading fails by the image itself, and not by a disk, a server or a lack of memory.

    Those may be back for the next attempt, which would then read other images.
    """
    if isinstance(error, FileNotFoundError):
        return os.path.islink(name)  # a link to nothing
    return not isinstance(error, MemoryError) and not (isinstance(error, OSError) and error.errno)
