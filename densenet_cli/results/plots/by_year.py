"""Error, parameters and multiply-adds of networks, by the year in which they first appeared.

Each network has a column of its own. Each data set has three panels.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise

from matplotlib.axes import Axes

from densenet_cli import units
from densenet_cli.figures import style
from densenet_cli.figures.drawing import Drawing, grouped
from densenet_cli.figures.labels import IN_COLUMN, place_labels
from densenet_cli.results.plots.setting_labels import error_axis, seeds
from densenet_cli.results.settings import Setting
from densenet_cli.results.systems import System, system_of, systems

YEARS = 3  # at least so many years, or a data set is not drawn
SHOWN = 24  # networks per data set; of more, the best of each system
HEIGHT = 5.4  # inches per data set
EDGE = 0.06  # margin beside the first and the last column, as a share of the width: half a name
NAME = 14  # characters per line of a network's name
COLOUR = style.COLOURS["blue"]
COSTS = {"parameters": "parameters", "multiply_adds": "multiply-adds"}


def draw(settings: Sequence[Setting]) -> Drawing | None:
    """Mean error and costs of the finished settings, in order of first appearance.

    Of several settings of a network on a data set, the one with the lowest error is drawn.

    Returns:
        None if no data set has networks from YEARS years. The year of a family is that of its system
        in systems.yaml; others are not drawn.
    """
    known = [item for item in settings if item.mean("error") is not None and all(map(item.mean, COSTS))]
    groups = _groups(known)
    if not groups:
        return None
    figure = style.new_figure(style.PAGE, HEIGHT * len(groups))
    grid = figure.subplots(3 * len(groups), 1, height_ratios=[2.8, 1, 1] * len(groups)).reshape(-1, 3)
    for (data, own), (errors, *costs) in zip(groups.items(), grid, strict=True):
        errors.set_title(data)
        _errors(errors, own)
        for axes, cost in zip(costs, COSTS, strict=True):
            _costs(axes, own, cost)
        _bands([errors, *costs], own)
    style.settle(figure)
    for own, errors in zip(groups.values(), grid[:, 0], strict=True):
        names = (textwrap.fill(item.network, NAME, break_long_words=False) for item in own)
        labels = [(*point, name) for point, name in zip(_points(own, "error"), names, strict=True)]
        place_labels(errors, labels, IN_COLUMN)
    drawn = [item for own in groups.values() for item in own]
    return Drawing(figure, [_row(item) for item in drawn], _note(drawn, known))


def _groups(known: list[Setting]) -> dict[str, list[Setting]]:
    """The settings to draw, by data set."""
    dated = [item for item in known if system_of(item.family)]
    groups = {data: _chosen(own) for data, own in grouped(dated, lambda item: item.data).items()}
    return {data: own for data, own in groups.items() if len(grouped(own, _year)) >= YEARS}


def _system(item: Setting) -> System:
    found = system_of(item.family)
    assert found, f"{item.family} has no year, and is not drawn"
    return found


def _year(item: Setting) -> int:
    return _system(item).year


def _chosen(own: list[Setting]) -> list[Setting]:
    """The best setting of each network, or of each system if there are too many, in order."""
    best = _best(own, lambda item: item.network)
    if len(best) > SHOWN:
        best = _best(own, lambda item: _system(item).name)
    return sorted(best, key=lambda item: (systems().index(_system(item)), item.mean("parameters")))


def _best(own: list[Setting], key: Callable[[Setting], str]) -> list[Setting]:
    return [
        min(alike, key=lambda item: item.mean("error") or 0.0) for alike in grouped(own, key).values()
    ]


def _points(own: list[Setting], quantity: str) -> list[tuple[int, float]]:
    """Column and mean of each setting."""
    return [(column, item.mean(quantity) or 0.0) for column, item in enumerate(own)]


def _errors(axes: Axes, own: list[Setting]) -> None:
    """The errors, and the lowest error so far."""
    points = _points(own, "error")
    columns, errors = zip(*points, strict=True)
    lowest = list(accumulate(errors, min))
    leading = [point for point, best in zip(points, lowest, strict=True) if point[1] == best]
    deviations = [item.std("error") or 0.0 for item in own]
    axes.step(columns, lowest, where="post", color=style.INK, lw=0.7, ls=":", zorder=1.5)
    axes.errorbar(columns, errors, deviations, fmt="none", ecolor=COLOUR, elinewidth=0.9, capsize=2)
    axes.plot(columns, errors, "o", color=COLOUR, mec=style.PAPER, mew=0.4)
    axes.plot(*zip(*leading, strict=True), "o", ms=9.5, mfc="none", mec=style.INK, mew=0.8)
    axes.margins(y=0.15)
    axes.set_ylabel(error_axis(own))


def _costs(axes: Axes, own: list[Setting], cost: str) -> None:
    """A cost on a logarithmic axis, each point with its number."""
    for point in _points(own, cost):
        axes.plot(*point, "o", color=COLOUR, mec=style.PAPER, mew=0.4)
        text = units.count(point[1])
        axes.annotate(text, point, (0, 5), textcoords="offset points", ha="center", size=6)
    axes.margins(y=0.4)
    style.logarithmic(axes, "y", units.count)
    axes.tick_params(axis="y", which="minor", length=0)
    axes.set_ylabel(COSTS[cost])


def _bands(panels: Sequence[Axes], own: list[Setting]) -> None:
    """The columns of each year as a band, alternately shaded, and the years below the last panel."""
    bands = grouped(range(len(own)), lambda column: _year(own[column]))
    right = len(own) - 1 + EDGE * len(own)
    edges = [*(columns[0] - 0.5 for columns in bands.values()), right]
    for axes in panels:
        axes.set_xlim(-EDGE * len(own), right)
        axes.set_xticks([sum(columns) / len(columns) for columns in bands.values()], [])
        axes.tick_params(axis="x", length=0)
        axes.grid(False, axis="x")
        for band in list(pairwise(edges))[1::2]:
            axes.axvspan(*band, color=style.GREY, alpha=0.09, lw=0)
    panels[-1].set_xticklabels(map(str, bands))
    panels[-1].set_xlabel("year of first appearance")


def _note(drawn: list[Setting], known: list[Setting]) -> str:
    text = (
        "Mean test error, parameters and multiply-adds per image, in order of first appearance; error "
        f"bars: sample standard deviation over seeds ({seeds(drawn)}). Rings and dotted line: the "
        "lowest error so far. Of several settings of a network, the one with the lowest error is shown."
    )
    unknown = sorted({item.family for item in known if not system_of(item.family)})
    return text + (f" Not shown, since their year is unknown: {', '.join(unknown)}." if unknown else "")


def _row(item: Setting) -> dict[str, object]:
    return {
        "data": item.data,
        "year": _year(item),
        "system": _system(item).name,
        "family": item.family,
        "setting": item.title,
        "error_percent_mean": item.mean("error"),
        "error_percent_std": item.std("error"),
        "n": item.n,
        **{cost: item.mean(cost) for cost in COSTS},
    }
