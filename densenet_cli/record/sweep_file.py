"""sweep.yaml in a sweep's folder: the commands typed for the sweep, and the folders of its runs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

import yaml

from densenet_cli.files.atomic_file import remove_partials, replace_file
from densenet_cli.files.plain_file import UnreadableFile, read_yaml
from densenet_cli.record import schema

SWEEP_FILE = "sweep.yaml"


@dataclass(frozen=True)
class SweepFile:
    """The content of a sweep.yaml.

    Attributes:
        commands: the overrides of each command that was typed.
        jobs: the names of the runs' folders.
        search: whether the sweep is a search; otherwise it is a grid.
    """

    commands: list[list[str]] = field(default_factory=list)
    jobs: list[str] = field(default_factory=list)
    search: bool = False


def read_sweep(folder: Path) -> SweepFile:
    """The sweep.yaml of a folder; empty if there is none.

    Raises:
        UnreadableFile: if its content is not that of a sweep.yaml.
    """
    path = folder / SWEEP_FILE
    try:
        content = read_yaml(path)
    except FileNotFoundError:
        return SweepFile()
    if fault := schema.check_sweep(content):
        raise UnreadableFile(path, fault)
    return SweepFile(content["commands"], content["jobs"], content.get("search", False))


def write_sweep(folder: Path, sweep: SweepFile) -> None:
    """Replace the sweep.yaml of a folder; the caller has locked it."""
    remove_partials(folder / SWEEP_FILE)
    replace_file(folder / SWEEP_FILE, yaml.safe_dump(asdict(sweep), sort_keys=False))
