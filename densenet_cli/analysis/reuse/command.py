"""`densenet-model reuse`: which feature maps the layers of a DenseNet use, as figure 5 of its paper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich.table import Table

from densenet_cli.analysis.network_label import NetworkLabel
from densenet_cli.analysis.reuse import figure
from densenet_cli.analysis.reuse.cuts import Change, EarlyMaps, early_maps
from densenet_cli.analysis.reuse.feature_reuse import BlockReuse, Claims, claims, feature_reuse
from densenet_cli.analysis.runs import Analysis
from densenet_cli.figures.terminal import table
from densenet_cli.inference.trained_network import TrainedNetwork
from densenet_cli.options import UserError
from densenet_cli.units import difference, interval

NUMBERS = {  # what it means: the attribute of Claims
    "1. layers: evenness of the weights": "layers.evenness",
    "1. layers: strongest source / mean": "layers.largest",
    "2. transitions: evenness of the weights": "transitions.evenness",
    "2. transitions: strongest source / mean": "transitions.largest",
    "3. blocks 2, 3, ...: block input / other sources": "input_over_others",
    "3. share of their layers with least weight on it": "input_is_least",
    "3. this share by chance": "input_is_least_by_chance",
    "4. classifier: late maps / early maps": "late_over_early",
    "4. classifier: correlation of weight and position": "lateness",
}
CHANGES = {  # what it means: the attribute of EarlyMaps
    "1. late layers without early maps: error": "layers",
    "2. transitions, classifier without them: error": "ends",
}


@dataclass(frozen=True)
class Reuse:
    """Of one network its weights, and its errors with connections cut (None without images)."""

    blocks: list[BlockReuse]
    claims: Claims
    cut: EarlyMaps | None


def reuse(analysis: Analysis, through_norm: bool) -> None:
    """Draw figure 5 of the DenseNet paper for each run, and print the paper's observations as numbers.

    Args:
        analysis: the runs, the test images on which connections are cut (0: none are cut), and where
            the figures go.
        through_norm: see `feature_reuse`.

    Raises:
        UserError: a run is not of a DenseNet, or cannot be used.
    """
    found = {
        network: _measured(analysis, trained, through_norm)
        for network, trained in analysis.networks(also_untrained=True)
    }
    analysis.output.write(
        "reuse",
        *(figure.draw(own.blocks, one.title) for one, own in found.items() if one.trained is None),
    )
    documents = [
        {"network": one.title, "is_trained": one.trained is None}
        | {path.replace(".", "_"): _number(own.claims, path) for path in NUMBERS.values()}
        | _document(own.cut)
        for one, own in found.items()
    ]
    analysis.output.finish(documents, _table(found))


def _measured(analysis: Analysis, trained: TrainedNetwork, through_norm: bool) -> Reuse:
    try:
        blocks = feature_reuse(trained.network, through_norm)
    except UserError as error:
        raise UserError(f"{trained.checkpoint}: {error}") from error
    images = analysis.test_images(trained) if analysis.images else None
    cut = early_maps(trained.network, images) if images else None
    return Reuse(blocks, claims(blocks), cut)


def _document(cut: EarlyMaps | None) -> dict[str, float | None]:
    """The changes as numbers; None where nothing was measured."""
    found: dict[str, float | None] = {"error_percent": cut.error if cut else None}
    for name in CHANGES.values():
        change: Change | None = getattr(cut, name, None)
        for part in ("points", "low_points", "high_points"):
            found[f"{name}_cut_{part}"] = getattr(change, part, None)
    return found


def _table(found: Mapping[NetworkLabel, Reuse]) -> Table:
    """A row for each number, a column for each network; no row if no network has the number."""
    columns = found.values()
    rows = []
    for meaning, path in NUMBERS.items():
        numbers = [_number(column.claims, path) for column in columns]
        rows.append([meaning, *("" if number is None else f"{number:.3f}" for number in numbers)])
    rows.append(["test error %", *(f"{own.cut.error:.2f}" if own.cut else "" for own in columns)])
    rows += [
        [meaning, *(_shown(own.cut, name) for own in columns)] for meaning, name in CHANGES.items()
    ]
    headings = ["observation of the paper, section 5", *(network.title for network in found)]
    return table(headings, [row for row in rows if any(row[1:])], text=headings[:1])


def _shown(cut: EarlyMaps | None, name: str) -> str:
    """Points, and their 95 % interval."""
    change: Change | None = getattr(cut, name, None)
    if change is None:
        return ""
    return f"{difference(change.points)} ({interval(change.low_points, change.high_points)})"


def _number(found: Claims, path: str) -> float | None:
    name, _, part = path.partition(".")
    value = getattr(found, name)
    return getattr(value, part) if part and value is not None else value
