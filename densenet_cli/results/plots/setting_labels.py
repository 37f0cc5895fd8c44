"""Short names of settings, and numbers of runs, for figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from densenet_cli.results.settings import Setting


def short_name(item: Setting) -> str:
    """A network's name without that of its family: "L=100, k=12", "110", "WRN-28-10"."""
    family = item.family.partition(" with ")[0]
    if not item.network.startswith(family):
        return item.network
    return item.network.removeprefix(family).strip(" -()") or item.network


def error_axis(items: Sequence[Setting], split: str = "test") -> str:
    """The label of an axis with the errors of settings of one data set."""
    is_auroc = all(item.several_labels for item in items)
    return f"{split}, 100 − AUROC (%)" if is_auroc else f"{split} error (%)"


def seeds(items: Iterable[Setting]) -> str:
    """The number of finished runs per setting: "n = 3" or "n = 1 to 5"."""
    numbers = [item.n for item in items]
    low, high = min(numbers), max(numbers)
    return f"n = {low}" if low == high else f"n = {low} to {high}"
