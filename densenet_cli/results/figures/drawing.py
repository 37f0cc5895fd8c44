"""A drawn figure, the points it was made of, and how settings are sorted into its panels."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from matplotlib.figure import Figure

from densenet_cli.results.settings import Setting

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")


@dataclass(frozen=True)
class Drawing:
    """One figure.

    Args:
        figure: as matplotlib draws it.
        points: what is drawn, a dictionary a point; columns of the CSV file beside the figure.
        note: one or two sentences for a caption: what is shown, over how many seeds.
    """

    figure: Figure
    points: list[dict[str, Any]]
    note: str


def by(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """The items that share a key, under that key, in order of first appearance."""
    groups: dict[Key, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def short_name(item: Setting) -> str:
    """What tells a network from others of its family: "L=100, k=12", "110", "WRN-28-10"."""
    family = item.family.partition(",")[0]
    if not item.network.startswith(family):
        return item.network
    return item.network.removeprefix(family).strip(" -()") or item.network


def seeds(items: Iterable[Setting]) -> str:
    """Over how many finished runs the settings are averaged: "n = 3" or "n = 1 to 5"."""
    numbers = [item.n for item in items]
    low, high = min(numbers), max(numbers)
    return f"n = {low}" if low == high else f"n = {low} to {high}"
