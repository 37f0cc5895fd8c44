"""`densenet-model lesions`: the test error after parts of a network are deleted or swapped."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from densenet_cli.analysis.forward import Batches
from densenet_cli.analysis.lesions import figure
from densenet_cli.analysis.lesions.experiments import Lesion, LesionStudy
from densenet_cli.analysis.network_label import NetworkLabel
from densenet_cli.analysis.runs import Analysis
from densenet_cli.figures.drawing import grouped
from densenet_cli.figures.terminal import table
from densenet_cli.inference.trained_network import TrainedNetwork

BOTH = "both"
REPLACED_BY = {"zero": "zeros", "mean": "means", "input": "input"}


def lesions(analysis: Analysis, replace: str, draws: int, most: int) -> None:
    """Measure all lesions of all runs; draw them on one figure, and print a line for each network.

    Args:
        analysis: the runs, the test images, and where the figures go.
        replace: what replaces the maps of a deleted unit: "zero", "mean", or "both", one after the
            other (layers of a plain network pass their input on, whether "zero" or "both").
        draws: random draws for each number of deletions and of swaps.
        most: the highest number of deletions and of swaps.

    Raises:
        UserError: a run cannot be used, or its network has no units that could be deleted.
    """

    def measure(trained: TrainedNetwork, batches: Batches) -> list[Lesion]:
        study = LesionStudy(trained.network, batches, "zero" if replace == BOTH else replace, draws)
        found = [study.intact(), *_deletions(study, most)]
        if replace == BOTH and study.replaced_by == "zero":
            found += _deletions(LesionStudy(trained.network, batches, "mean", draws), most)
        return found + (study.swap_random(range(1, most + 1)) if study.pairs() else [])

    found = analysis.each(measure)
    analysis.output.write("lesions", figure.draw(found, replace))
    headings = ["network", "units", "replaced by", "error % intact", "one deleted, mean", "worst"]
    summaries = [one for network, own in found.items() for one in _summaries(network, own)]
    rows = map(_row, summaries)
    text = ("network", "replaced by", "worst unit")
    analysis.output.finish(summaries, table([*headings, "worst unit"], rows, text=text))


def _deletions(study: LesionStudy, most: int) -> list[Lesion]:
    several = range(1, min(most, len(study.units)) + 1)
    return [*study.delete_each(), *study.delete_random(several)]


def _row(summary: dict[str, str | int | float]) -> list[str]:
    shown = {**summary, "replaced_by": REPLACED_BY[str(summary["replaced_by"])]}
    return [f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in shown.values()]


def _summaries(network: NetworkLabel, lesions: list[Lesion]) -> Iterator[dict[str, str | int | float]]:
    """The error of the intact network, and those with one unit deleted, by what replaced its maps."""
    (intact,) = (lesion for lesion in lesions if lesion.experiment == "intact")
    single = [lesion for lesion in lesions if lesion.experiment == "delete_one"]
    for replaced_by, own in grouped(single, lambda lesion: lesion.replaced_by).items():
        worst = max(own, key=lambda lesion: lesion.error)
        yield {
            "network": network.title,
            "units": len(own),
            "replaced_by": replaced_by,
            "intact_error_percent": intact.error,
            "one_deleted_mean_error_percent": statistics.fmean(lesion.error for lesion in own),
            "one_deleted_highest_error_percent": worst.error,
            "worst_unit": worst.units[0],
        }
