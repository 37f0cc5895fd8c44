"""`densenet-model reuse`: which feature maps the layers of a DenseNet use, as figure 5 of its paper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from densenet_cli.analysis.network_label import NetworkLabel
from densenet_cli.analysis.reuse import figure
from densenet_cli.analysis.reuse.feature_reuse import BlockReuse, claims, feature_reuse
from densenet_cli.analysis.runs import Analysis
from densenet_cli.figures.terminal import console, table
from densenet_cli.options import UserError


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
    analysis.write("reuse", *(figure.draw(blocks[one], one.title) for one in trained_ones))
    _show_claims(blocks)


def _show_claims(blocks: Mapping[NetworkLabel, list[BlockReuse]]) -> None:
    """A row for each number, a column for each network."""
    columns = [dict(_numbers(asdict(claims(own)))) for own in blocks.values()]
    names = dict.fromkeys(name for column in columns for name in column)
    rows = ([name, *(_cell(column.get(name)) for column in columns)] for name in names)
    headings = ["observation", *(network.title for network in blocks)]
    console().print(table(headings, rows, text=headings[:1]))


def _cell(number: float | None) -> str:
    return "" if number is None else f"{number:.3f}"


def _numbers(values: Mapping[str, Any], within: str = "") -> list[tuple[str, float | None]]:
    """All numbers of nested dictionaries with their names, as "layers: evenness"."""
    numbers: list[tuple[str, float | None]] = []
    for name, value in values.items():
        words = within + name.replace("_", " ")
        numbers += _numbers(value, f"{words}: ") if isinstance(value, dict) else [(words, value)]
    return numbers
