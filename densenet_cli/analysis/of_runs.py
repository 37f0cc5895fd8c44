"""Analyses of trained runs: figures, the numbers in them as CSV, and what the terminal shows."""

from __future__ import annotations

import statistics
from dataclasses import asdict
from typing import Any

from rich import box
from rich.table import Table

from densenet_cli.analysis import layer_figure
from densenet_cli.analysis.forward import Batches
from densenet_cli.analysis.gradients.effective_depth import branching_units, effective_depth
from densenet_cli.analysis.gradients.gradient_flow import LayerGradient, gradient_norms
from densenet_cli.analysis.lesions import figure as lesion_figure
from densenet_cli.analysis.lesions import lesions
from densenet_cli.analysis.lesions.units import DenseLayer
from densenet_cli.analysis.maps import feature_maps
from densenet_cli.analysis.network_label import Subject
from densenet_cli.analysis.reuse import feature_reuse
from densenet_cli.analysis.reuse import figure as reuse_figure
from densenet_cli.analysis.runs import Look
from densenet_cli.figures.terminal import console, plain
from densenet_cli.inference.trained import Trained
from densenet_cli.options import OptionError, UserError


def reuse(look: Look, through_norm: bool) -> None:
    """Figure 5 of the DenseNet paper for each run, and the paper's observations in numbers.

    Raises:
        UserError: a run is not of a DenseNet.
    """
    found = {}
    for subject, trained in look.networks(also_untrained=True):
        try:
            found[subject] = feature_reuse.feature_reuse(trained.network, through_norm)
        except UserError as error:
            raise UserError(f"{trained.checkpoint}: {error}") from error
    own = list(found)[::2]  # each run's network, and between them the untrained ones
    look.write("reuse", *(reuse_figure.draw(found[one], one.title) for one in own))
    _show_claims({subject.title: feature_reuse.claims(blocks) for subject, blocks in found.items()})


def _show_claims(claims: dict[str, feature_reuse.Claims]) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("observation")
    for title in claims:
        table.add_column(plain(title), justify="right")
    rows: dict[str, list[str]] = {}
    for own in claims.values():
        for name, value in _flat(asdict(own)):
            rows.setdefault(name, []).append("" if value is None else f"{value:.3f}")
    for name, cells in rows.items():
        table.add_row(name, *cells)
    console().print(table)


def _flat(values: dict[str, Any]) -> list[tuple[str, float | None]]:
    pairs: list[tuple[str, float | None]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            pairs += [(f"{name}: {part}", number) for part, number in value.items()]
        else:
            pairs.append((name.replace("_", " "), value))
    return pairs


def lesion(look: Look, replace: str, draws: int, most: int) -> None:
    """Errors after units were deleted, one and several, and swapped; all runs on one figure.

    Args:
        look: what to look at.
        replace: "zero" or "mean": what stands in place of a deleted unit's maps.
        draws: random draws of each number of deletions and swaps.
        most: deletions and swaps at most.
    """

    def study(trained: Trained, batches: Batches) -> list[lesions.Lesion]:
        own = lesions.LesionStudy(trained.network, batches, replace, draws)
        numbers = range(1, min(most, len(own.units)) + 1)
        found = [own.intact(), *own.delete_each(), *own.delete_random(numbers)]
        return found + (own.swap_random(range(1, most + 1)) if own.pairs() else [])

    found = look.each(study)
    look.write("lesions", lesion_figure.draw(found, replace))
    _show_lesions(found)


def _show_lesions(found: dict[Subject, list[lesions.Lesion]]) -> None:
    """A line a network: its error, and the errors with one unit deleted."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("network")
    for heading in ("units", "error % intact", "one deleted, mean", "worst", "which"):
        table.add_column(heading, justify="left" if heading == "which" else "right")
    for subject, own in found.items():
        (intact,) = (lesion for lesion in own if lesion.experiment == "intact")
        single = [lesion for lesion in own if lesion.experiment == "delete_one"]
        worst = max(single, key=lambda lesion: lesion.error)
        mean = statistics.fmean(lesion.error for lesion in single)
        errors = (f"{error:.2f}" for error in (intact.error, mean, worst.error))
        table.add_row(plain(subject.title), str(len(single)), *errors, *worst.units)
    console().print(table)


def gradients(look: Look) -> None:
    """Gradient norms by layer, at the start and trained; in the terminal the effective depth."""

    def measure(trained: Trained, batches: Batches) -> tuple[list[LayerGradient], str]:
        return gradient_norms(trained.network, batches), _paths(trained, batches)

    if look.images < 2:
        raise OptionError("--images", look.images, "must be 2 or more, for batch norm", 256)
    found = look.each(measure, also_untrained=True)
    look.write("gradients", layer_figure.draw_gradients({one: own[0] for one, own in found.items()}))
    for subject, (_, paths) in found.items():
        print(f"{subject.title}: {paths}")


def _paths(trained: Trained, batches: Batches) -> str:
    """Through how many residual blocks or dense layers the gradient comes, in words."""
    units = branching_units(trained.network)
    if not units:
        return "no residual blocks or dense layers, through which gradients could take short paths"
    depth = effective_depth(trained.network, units, batches)
    kind = "dense layers" if isinstance(units[0], DenseLayer) else "residual blocks"
    return f"the gradient comes through {depth:.1f} of {len(units)} {kind} in the mean"


def maps(look: Look) -> None:
    """Dead and redundant feature maps by layer."""
    found = look.each(lambda trained, images: feature_maps.activations(trained.network, images))
    look.write("maps", layer_figure.draw_feature_maps(found))
