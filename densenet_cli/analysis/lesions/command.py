"""`densenet-model lesions`: the test error after parts of a network are deleted or swapped."""

from __future__ import annotations

import statistics

from densenet_cli.analysis.forward import Batches
from densenet_cli.analysis.lesions import figure
from densenet_cli.analysis.lesions.experiments import Lesion, LesionStudy
from densenet_cli.analysis.network_label import NetworkLabel
from densenet_cli.analysis.runs import Analysis
from densenet_cli.figures.terminal import table
from densenet_cli.inference.trained_network import TrainedNetwork


def lesions(analysis: Analysis, replace: str, draws: int, most: int) -> None:
    """Measure all lesions of all runs; draw them on one figure, and print a line for each network.

    Args:
        analysis: the runs, the test images, and where the figures go.
        replace: what replaces the maps of a deleted unit, "zero" or "mean".
        draws: random draws for each number of deletions and of swaps.
        most: the highest number of deletions and of swaps.

    Raises:
        UserError: a run cannot be used, or its network has no units that could be deleted.
    """

    def measure(trained: TrainedNetwork, batches: Batches) -> list[Lesion]:
        study = LesionStudy(trained.network, batches, replace, draws)
        deletions = range(1, min(most, len(study.units)) + 1)
        found = [study.intact(), *study.delete_each(), *study.delete_random(deletions)]
        return found + (study.swap_random(range(1, most + 1)) if study.pairs() else [])

    found = analysis.each(measure)
    analysis.output.write("lesions", figure.draw(found, replace))
    headings = ["network", "units", "error % intact", "one deleted, mean", "worst", "worst unit"]
    summaries = [_summary(network, own) for network, own in found.items()]
    rows = map(_row, summaries)
    analysis.output.finish(summaries, table(headings, rows, text=("network", "worst unit")))


def _row(summary: dict[str, str | int | float]) -> list[str]:
    return [f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in summary.values()]


def _summary(network: NetworkLabel, lesions: list[Lesion]) -> dict[str, str | int | float]:
    """The error of the intact network, and the errors with one unit deleted."""
    (intact,) = (lesion for lesion in lesions if lesion.experiment == "intact")
    single = [lesion for lesion in lesions if lesion.experiment == "delete_one"]
    worst = max(single, key=lambda lesion: lesion.error)
    return {
        "network": network.title,
        "units": len(single),
        "intact_error_percent": intact.error,
        "one_deleted_mean_error_percent": statistics.fmean(lesion.error for lesion in single),
        "one_deleted_highest_error_percent": worst.error,
        "worst_unit": worst.units[0],
    }
