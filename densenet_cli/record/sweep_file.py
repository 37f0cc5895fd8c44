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
class UntilDecided:
    """What a sweep with seeds=until_decided fixed before its first run; nothing of it changes later.

    Each other setting is compared with the baseline by a sequential test, at one look after another,
    until the test decides.

    Attributes:
        baseline: the name of a setting.
        settings: the identity of each setting by its name, the baseline among them.
        first_seed: the seeds count up from it.
        looks: the numbers of seeds at which a comparison is looked at, ascending.
        level: the probability, at most, of any false decision among all comparisons.
        margin: percent points; settings that differ by less count as equal. None: never say equal.
    """

    baseline: str
    settings: dict[str, str]
    first_seed: int
    looks: list[int]
    level: float
    margin: float | None


@dataclass(frozen=True)
class SweepFile:
    """The content of a sweep.yaml.

    Attributes:
        commands: the overrides of each command that was typed.
        jobs: the names of the runs' folders.
        search: whether the sweep is a search; otherwise it is a grid.
        until_decided: how seeds=until_decided compares the settings; None if it was never typed.
    """

    commands: list[list[str]] = field(default_factory=list)
    jobs: list[str] = field(default_factory=list)
    search: bool = False
    until_decided: UntilDecided | None = None


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
    fixed = content.get("until_decided")
    return SweepFile(
        content["commands"],
        content["jobs"],
        content.get("search", False),
        UntilDecided(**fixed) if fixed else None,
    )


def write_sweep(folder: Path, sweep: SweepFile) -> None:
    """Replace the sweep.yaml of a folder; the caller has locked it."""
    remove_partials(folder / SWEEP_FILE)
    content = {key: value for key, value in asdict(sweep).items() if value is not None}
    replace_file(folder / SWEEP_FILE, yaml.safe_dump(content, sort_keys=False))
