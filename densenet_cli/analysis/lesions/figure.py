"""Test errors of several networks: with one unit deleted, with several deleted, with units swapped.

As figures 3 and 5 of Veit et al. 2016 (arXiv:1605.06431).
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from densenet_cli.analysis.lesions.experiments import Lesion
from densenet_cli.analysis.network_label import NetworkLabel, legend, marks
from densenet_cli.figures import style
from densenet_cli.figures.drawing import Drawing, grouped
from densenet_cli.plain_text import counted

MEANS = 6  # points of the line for swaps, from τ = 1 to the lowest τ


ROWS = {"zero": ("zero",), "mean": ("mean",), "both": ("zero", "mean")}
WORDS = {"zero": "zeros", "mean": "means"}


def draw(lesions: Mapping[NetworkLabel, Sequence[Lesion]], replace: str = "zero") -> Drawing:
    """Test error of each network after each lesion; a panel for each experiment that was run.

    Args:
        lesions: the results of each network's LesionStudy, all experiments together.
        replace: what replaced the deleted maps: "zero", "mean", or "both", a row of panels each.
    """
    done = {lesion.experiment for own in lesions.values() for lesion in own}
    panels = [name for name in PANELS if name in done]
    rows = ROWS[replace]
    with style.styled():
        width = style.PAGE if len(panels) > 1 else style.COLUMN
        figure = style.new_figure(width, 3.2 * len(rows))
        grid = figure.subplots(len(rows), len(panels), squeeze=False, sharey=True)
        mark_of = marks(lesions)
        for replaced_by, line in zip(rows, grid, strict=True):
            for name, axes in zip(panels, line, strict=True):
                if replaced_by != rows[0] and name not in DELETIONS:
                    axes.remove()  # it is in the first row
                    continue
                _fill(axes, name, replaced_by, lesions, mark_of)
                if len(rows) > 1 and name in DELETIONS:
                    axes.set_title(f"{axes.get_title(loc='left')}: {WORDS[replaced_by]}")
            line[0].set_ylabel("test error (%)")
        grid[0, 0].set_ylim(0, None)
        figure.legend(handles=legend(mark_of), loc="outside lower center", ncols=3)
    return Drawing(figure, _points(lesions), _note(lesions, replace))


def _fill(
    axes: Axes,
    name: str,
    replaced_by: str,
    lesions: Mapping[NetworkLabel, Sequence[Lesion]],
    mark_of: Mapping[NetworkLabel, style.Mark],
) -> None:
    """Draw one experiment of each network; what passes its input on is drawn in all rows."""
    for network, own in lesions.items():
        chosen = [
            lesion
            for lesion in own
            if lesion.experiment == name and lesion.replaced_by in (replaced_by, "input", "")
        ]
        if chosen:
            PANELS[name](axes, [*_intact(own), *chosen], mark_of[network])


def _intact(own: Sequence[Lesion]) -> list[Lesion]:
    return [lesion for lesion in own if lesion.experiment == "intact"]


def _each(axes: Axes, own: Sequence[Lesion], mark: style.Mark) -> None:
    errors = [lesion.error for lesion in own if lesion.number]
    axes.plot(
        range(1, len(errors) + 1), errors, mark.marker, color=mark.colour, ls=mark.line, ms=4, lw=1
    )
    for lesion in _intact(own):
        axes.axhline(lesion.error, color=mark.colour, lw=0.6, ls=":")
    axes.set(title="one deleted", xlabel="deleted unit, from the input")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _several(axes: Axes, own: Sequence[Lesion], mark: style.Mark) -> None:
    errors = grouped(own, lambda lesion: lesion.number)
    numbers = sorted(errors)
    values = [[lesion.error for lesion in errors[number]] for number in numbers]
    means = list(map(statistics.fmean, values))
    axes.plot(numbers, means, mark.marker, color=mark.colour, ls=mark.line, ms=4, lw=1)
    axes.fill_between(
        numbers, list(map(min, values)), list(map(max, values)), color=mark.colour, alpha=0.15, lw=0
    )
    axes.set(title="several deleted", xlabel="units deleted at random")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _swaps(axes: Axes, own: Sequence[Lesion], mark: style.Mark) -> None:
    axes.plot(
        [lesion.tau for lesion in own],
        [lesion.error for lesion in own],
        mark.marker,
        color=mark.colour,
        ls="none",
        ms=3,
        alpha=0.35,
        mew=0,
    )
    reach = 1 - min(lesion.tau for lesion in own) or 1
    groups = grouped(own, lambda one: (one.number > 0, round(MEANS * (1 - one.tau) / reach))).values()
    means = sorted(
        (statistics.fmean(one.tau for one in group), statistics.fmean(one.error for one in group))
        for group in groups
    )
    axes.plot(*zip(*means, strict=True), mark.marker, color=mark.colour, ls=mark.line, ms=4, lw=1)
    axes.set(title="pairs swapped", xlabel="Kendall's τ of the order")
    if not axes.xaxis_inverted():
        axes.invert_xaxis()


PANELS: dict[str, Callable[[Axes, Sequence[Lesion], style.Mark], None]] = {
    "delete_one": _each,
    "delete_random": _several,
    "swap_random": _swaps,
}
DELETIONS = ("delete_one", "delete_random")


def _note(lesions: Mapping[NetworkLabel, Sequence[Lesion]], replace: str) -> str:
    draws = 1 + max((lesion.draw for own in lesions.values() for lesion in own), default=0)
    maps = {"zero": "zeros", "mean": "their means", "both": "zeros, or in the second row their means"}[
        replace
    ]
    return (
        "Test error after units are deleted or swapped, without further training. Units: residual "
        f"blocks (deleted: the branch outputs {maps}); layers of a DenseNet (deleted: all readers of "
        f"their maps read {maps}; swapped: later readers read their maps in each other's place); "
        "convolutions of a plain network whose input and output have equal shapes (deleted: their "
        f"input passes through). Several deleted: mean of {counted(draws, 'draw')}, band: lowest to "
        "highest. Swapped: means of draws of similar τ. Dotted: the intact network."
    )


def _points(lesions: Mapping[NetworkLabel, Sequence[Lesion]]) -> list[dict[str, object]]:
    return [
        {
            "network": network.title,
            **dataclasses.asdict(lesion),
            "units": " ".join(lesion.units),
        }
        for network, own in lesions.items()
        for lesion in own
    ]
