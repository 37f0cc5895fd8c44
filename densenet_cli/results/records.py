"""Find and read the records of runs."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

from densenet_cli import units
from densenet_cli.files.lock import is_locked
from densenet_cli.files.plain_file import UnreadableFile
from densenet_cli.options import UserError, shown
from densenet_cli.record import identity
from densenet_cli.record.run_record import RunRecord

KILLED = "killed"  # recorded as running, but its process has died
PUBLISHED = ".published"


@dataclass(frozen=True, eq=False)
class Run:
    """One run, as it was recorded.

    Args:
        folder: the run's folder, found below a folder that the user typed.
        fields: the content of run.json.
    """

    folder: Path
    fields: dict[str, Any]

    @property
    def name(self) -> str:
        """The folder, as text."""
        return str(self.folder)

    @property
    def state(self) -> str:
        """One of schema.STATES, as recorded."""
        return self.fields["state"]

    @cached_property
    def status(self) -> str:
        """`state`, but KILLED for a run whose process died before it could record how it ended."""
        return KILLED if self.state == "running" and not is_locked(self.folder) else self.state

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration."""
        return self.fields["config"]

    @property
    def results(self) -> dict[str, Any]:
        """Errors in percent by name; empty until the run is done."""
        return self.fields["results"]

    @property
    def seed(self) -> Any:
        """The seed; None if it was not recorded."""
        return self.fields.get("seed")

    @property
    def seeds(self) -> tuple[str, ...]:
        """The options in which it differs from other runs of its setting."""
        options = identity.flat(self.config)
        return tuple(shown(options.get(name)) for name in identity.SEEDS)

    @property
    def ended(self) -> datetime:
        """When it finished; the latest possible time if that was not recorded."""
        text = self.fields.get("ended")
        return datetime.fromisoformat(text) if text else datetime.max.replace(tzinfo=timezone.utc)

    @property
    def images(self) -> str | None:
        """The digest of its images; None if it was not recorded."""
        return (self.fields.get("data") or {}).get("digest")

    @property
    def several_labels(self) -> bool:
        """Whether its images can have several labels: its error is then 100 % minus the mean AUROC."""
        return bool((self.fields.get("data") or {}).get("several_labels"))

    def shown_error(self, error: float) -> str:
        """An error of this run as a table shows it below "error %": 4.51; or AUROC 0.8412."""
        return f"AUROC {units.auroc(error)}" if self.several_labels else units.percent(error)

    @cached_property
    def setting(self) -> str:
        """An identifier of all options but the seed."""
        return identity.setting(self.config)


@dataclass(frozen=True)
class Unreadable:
    """A record that cannot be used.

    Args:
        path: the file or folder.
        reason: the rest of a sentence that begins with the path.
    """

    path: Path
    reason: str


class PublishedFolder(Unreadable):
    """A folder of published runs, which must not be mixed with other runs."""


def read_runs(
    folders: Sequence[Path], read: Callable[[Path], Run] | None = None
) -> tuple[list[Run], list[Unreadable]]:
    """All runs below some folders, each once, in the order of their folders' names.

    A folder with a file named .published is left out, unless it or a folder below it is in `folders`.

    Args:
        folders: where to search, at any depth.
        read: reads the run in a folder, as `read_run` does, which is the default.

    Returns:
        The runs, and what could not be read or was left out.

    Raises:
        UserError: if one of the folders does not exist.
    """
    runs: list[Run] = []
    unreadable: list[Unreadable] = []
    seen: set[tuple[int, int]] = set()
    for top in folders:
        if not top.is_dir():
            fault = "is not a folder" if top.exists() else "there is no such folder"
            raise UserError(f"{top}: {fault}; name one with runs: densenet-run makes outputs/DATE/TIME")
        for folder in _run_folders(top, unreadable):
            place = folder.stat()
            if (place.st_dev, place.st_ino) not in seen:
                seen.add((place.st_dev, place.st_ino))
                try:
                    runs.append((read or read_run)(folder))
                except UnreadableFile as error:
                    unreadable.append(Unreadable(error.path, error.reason))
    return runs, [item for item in dict.fromkeys(unreadable) if not _is_named(item, folders)]


def _is_named(item: Unreadable, folders: Sequence[Path]) -> bool:
    """Whether it is a folder of published runs that the user named."""
    return isinstance(item, PublishedFolder) and any(map(item.path.samefile, folders))


def read_run(folder: Path) -> Run:
    """The run in one folder. Raises UserError if there is none, or its record cannot be used."""
    return Run(folder, RunRecord.read(folder).fields)


def _run_folders(top: Path, unreadable: list[Unreadable]) -> Iterator[Path]:
    """Folders with a run.json; the folders below one of these are not searched."""

    def note(error: OSError) -> None:
        unreadable.append(Unreadable(Path(error.filename), f"cannot be read: {error.strerror}"))

    for folder, subfolders, files in os.walk(top, onerror=note):
        subfolders.sort(key=in_natural_order)
        if PUBLISHED in files and Path(folder) != top:
            subfolders.clear()
            unreadable.append(
                PublishedFolder(Path(folder), "holds published runs; name this folder to see them")
            )
        elif "run.json" in files or "run.json" in subfolders:
            subfolders.clear()
            yield Path(folder)


def in_natural_order(name: str) -> list[str | int]:
    """A key to sort folders by: "seed=2" before "seed=10"."""
    return [int(part) if index % 2 else part for index, part in enumerate(re.split(r"([0-9]+)", name))]
