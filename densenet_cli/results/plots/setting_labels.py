"""How settings are named and counted on figures."""

from __future__ import annotations

from collections.abc import Iterable

from densenet_cli.results.settings import Setting


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
