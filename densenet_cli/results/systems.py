"""Published convolutional networks in order of appearance, and which family of ours is which."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import yaml

FILE = Path(__file__).with_name("systems.yaml")


@dataclass(frozen=True, eq=False)
class System:
    """A published architecture, as systems.yaml describes it.

    Args:
        name: its usual name.
        year: when it first appeared, preprints included.
        authors: as in a citation.
        title: of the paper.
        source: where the paper appeared.
        networks: our families of it, named by `network_names.family`.
        parameters, multiply_adds: the numbers that its authors state, for some files of
            conf/model/history.
    """

    name: str
    year: int
    authors: str
    title: str
    source: str
    networks: list[str]
    parameters: dict[str, int] = field(default_factory=dict)
    multiply_adds: dict[str, int] = field(default_factory=dict)


@cache
def systems() -> tuple[System, ...]:
    """All systems, in order of first appearance."""
    content = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return tuple(System(name, **entry) for name, entry in content.items())


def system_of(family: str) -> System | None:
    """The system that a family of networks belongs to; None if systems.yaml does not have it."""
    return _by_family().get(family)


@cache
def _by_family() -> dict[str, System]:
    return {family: system for system in systems() for family in system.networks}
