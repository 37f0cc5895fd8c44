"""Which system of the history of convolutional networks a family of networks belongs to."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import yaml

FILE = Path(__file__).with_name("systems.yaml")


@dataclass(frozen=True, eq=False)
class System:
    """A published system.

    Args:
        name: what the field calls it.
        year: of its first appearance, a preprint too.
        authors: as a citation names them.
        title: of the document.
        source: where that can be read.
        networks: the families, as `networks.family` has them, that are this system.
        parameters: as its authors print them, by choice of conf/model/history.
    """

    name: str
    year: int
    authors: str
    title: str
    source: str
    networks: list[str]
    parameters: dict[str, int] = field(default_factory=dict)


@cache
def systems() -> tuple[System, ...]:
    """All systems of history.yaml, in its order: that of their first appearance."""
    content = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return tuple(System(name, **entry) for name, entry in content.items())


def system_of(family: str) -> System | None:
    """The system that a family of networks belongs to; None if history.yaml does not know it."""
    return _by_family().get(family)


@cache
def _by_family() -> dict[str, System]:
    return {family: system for system in systems() for family in system.networks}
