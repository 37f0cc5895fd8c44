"""`densenet-model reuse`: which feature maps the layers of a DenseNet use, as figure 5 of its paper."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from densenet_cli.analysis.network_label import NetworkLabel
from densenet_cli.analysis.reuse import figure
from densenet_cli.analysis.reuse.feature_reuse import Claims, claims, feature_reuse
from densenet_cli.analysis.runs import Analysis
from densenet_cli.figures.terminal import table
from densenet_cli.options import UserError

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


def reuse(analysis: Analysis, through_norm: bool) -> None:
    """Draw figure 5 of the DenseNet paper for each run, and print the paper's observations as numbers.

    Args:
        analysis: the runs, and where the figures go.
        through_norm: see `feature_reuse`.

    Raises:
        UserError: a run is not of a DenseNet, or cannot be used.
    """
    blocks = {}
    for network, trained in analysis.networks(also_untrained=True):
        try:
            blocks[network] = feature_reuse(trained.network, through_norm)
        except UserError as error:
            raise UserError(f"{trained.checkpoint}: {error}") from error
    trained_ones = [network for network in blocks if network.trained is None]
    analysis.output.write("reuse", *(figure.draw(blocks[one], one.title) for one in trained_ones))
    found = {network: claims(own) for network, own in blocks.items()}
    documents = [
        {"network": one.title, "is_trained": one.trained is None}
        | {path.replace(".", "_"): _number(own, path) for path in NUMBERS.values()}
        for one, own in found.items()
    ]
    analysis.output.finish(documents, _table(found))


def _table(found: Mapping[NetworkLabel, Claims]) -> Table:
    """A row for each number, a column for each network; no row if no network has the number."""
    columns = found.values()
    rows = []
    for meaning, path in NUMBERS.items():
        numbers = [_number(column, path) for column in columns]
        if any(number is not None for number in numbers):
            rows.append([meaning, *("" if number is None else f"{number:.3f}" for number in numbers)])
    headings = ["observation of the paper, section 5", *(network.title for network in found)]
    return table(headings, rows, text=headings[:1])


def _number(found: Claims, path: str) -> float | None:
    name, _, part = path.partition(".")
    value = getattr(found, name)
    return getattr(value, part) if part and value is not None else value
