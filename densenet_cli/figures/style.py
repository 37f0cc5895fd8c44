"""The look of figures: sizes, colours, markers, line styles, ticks.

The colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/), which colour-blind people can
distinguish. Each family also has its own marker and line style, for prints in grey.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

INK = "#1d1d21"  # text, axes and the Pareto front
GREY = "#7d7d85"
PAPER = "#fefefe"  # the background: a white that nothing else has, so a dark page can replace it
COLOURS = {
    "paper": PAPER,
    "ink": INK,
    "grey": GREY,
    "blue": "#0072b2",
    "sky": "#56b4e9",
    "green": "#009e73",
    "purple": "#cc79a7",
    "vermilion": "#d55e00",
    "orange": "#e69f00",
}
RC: Any = {
    "font.family": "DejaVu Sans",  # part of matplotlib: figures look the same everywhere
    "font.size": 8,
    "text.parse_math": False,  # a dollar sign in a record starts no formula
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GREY,
    "grid.alpha": 0.22,
    "grid.linewidth": 0.5,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "lines.markersize": 5.5,
    "hatch.linewidth": 0.6,
    **{f"{part}.color": INK for part in ("text", "xtick", "ytick")},
    "hatch.color": GREY,
    "axes.edgecolor": INK,
    "axes.facecolor": PAPER,
    "figure.facecolor": PAPER,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "savefig.dpi": 200,
    "svg.fonttype": "path",
    "svg.hashsalt": "densenet-results",  # else the ids in an SVG would be random
    "pdf.fonttype": 42,
}
COLUMN, PAGE = 5.0, 7.4  # width in inches of one panel, and of two side by side


@dataclass(frozen=True)
class Mark:
    """The look of a family: a colour, a marker and a line style, by matplotlib's names."""

    colour: str
    marker: str
    line: Any


FAMILIES = {
    "DenseNet-BC": Mark(COLOURS["blue"], "o", "-"),
    "DenseNet": Mark(COLOURS["sky"], "s", (0, (5, 1.5))),
    "DenseNet-B": Mark(COLOURS["green"], "D", (0, (3, 1, 1, 1))),
    "DenseNet-C": Mark(COLOURS["purple"], "v", (0, (1, 1))),
    "ResNet": Mark(COLOURS["vermilion"], "^", (0, (4, 1, 1, 1, 1, 1))),
    "ResNet with stochastic depth": Mark(GREY, "h", (0, (2, 2))),
    "Pre-activation ResNet": Mark(COLOURS["orange"], "P", (0, (7, 2))),
    "Wide ResNet": Mark(INK, "X", (0, (1, 2.5))),
    "Plain network": Mark(INK, "d", (0, (9, 1))),
}
OTHERS = [
    Mark(COLOURS[colour], marker, (0, (6, 1, 1, 1)))
    for colour, marker in itertools.product(("purple", "green", "vermilion", "sky", "blue"), "<>p*H8")
]


def marks(families: Iterable[str]) -> dict[str, Mark]:
    """A mark for each family: those in FAMILIES have their own, others get one in order of name."""
    others = itertools.cycle(OTHERS)
    return {name: FAMILIES.get(name) or next(others) for name in sorted(set(families))}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, size in inches, that can measure its texts."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def settle(figure: Figure) -> None:
    """Make the layout final, so that labels can be placed by measured sizes."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def panels(number: int, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of `number` panels: one in a column's width, more in rows of two; `height` per row."""
    columns = min(number, 2)
    rows = math.ceil(number / columns)
    figure = new_figure(PAGE if columns == 2 else COLUMN, height * rows)
    grid = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for spare in grid[number:]:
        spare.remove()
    return figure, grid[:number]


def styled() -> Any:
    """A context in which matplotlib draws and saves in this style, whatever the user's settings."""
    defaults = {name: value for name, value in matplotlib.rcParamsDefault.items() if name != "backend"}
    return matplotlib.rc_context(defaults | RC)


def logarithmic(axes: Axes, name: str, text: Callable[[float], str]) -> None:
    """Make the axis "x" or "y" logarithmic, with ticks at round numbers, written by `text`."""
    axes.set(**{f"{name}scale": "log"})
    axis = {"x": axes.xaxis, "y": axes.yaxis}[name]
    low, high = axis.get_view_interval()
    decades = math.log10(high / low)
    steps = (1,) if decades > 4 else (1, 3) if decades > 1.8 else (1, 2, 3, 5, 7)
    axis.set_major_locator(LogLocator(subs=steps, numticks=20))
    axis.set_major_formatter(FuncFormatter(lambda number, _: text(number)))
    axis.set_minor_formatter(NullFormatter())


def duration_unit(longest: float) -> tuple[float, str]:
    """A unit of time that suits the longest time: its length in seconds, and its name."""
    for seconds, name in ((3600.0, "h"), (60.0, "min")):
        if longest >= 2 * seconds:
            return seconds, name
    return 1.0, "s"
