"""Error and training loss by epoch, like the right side of figure 4 of arXiv:1608.06993."""

from __future__ import annotations

import math
import statistics
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from densenet_cli.figures import style
from densenet_cli.figures.drawing import Drawing, grouped
from densenet_cli.figures.labels import spread
from densenet_cli.options import UserError
from densenet_cli.record.metrics import read_metrics
from densenet_cli.results.plots.setting_labels import error_axis, seeds
from densenet_cli.results.settings import Setting

SHOWN = 8  # curves per data set, as more cannot be distinguished; of more settings, the best ones
HEIGHT = 4.6  # inches per data set: error above, loss below
SHADES = (1.0, 0.6, 0.8, 0.4, 0.9, 0.5, 0.7, 0.3)  # opacities of the settings of one family


@dataclass(frozen=True)
class Curve:
    """One quantity of a setting by epoch, over its finished runs.

    Args:
        epochs: counted from 1; those for which at least one run recorded the quantity.
        means: over the runs that recorded it.
        stds: their sample standard deviation, 0 if only one did.
    """

    epochs: list[int]
    means: list[float]
    stds: list[float]


@dataclass(frozen=True)
class _Curves:
    item: Setting
    split: str  # "test", or "validation" where images were held out
    error: Curve
    loss: Curve


def draw(settings: Sequence[Setting]) -> Drawing | None:
    """Curves of the finished settings, mean over seeds with a band; None if no epoch was recorded."""
    groups = grouped((item for item in settings if item.done), lambda item: item.data)
    chosen = [item for own in groups.values() for item in _chosen(own)]
    unreadable: list[str] = []
    known = [curves for item in chosen if (curves := _curves(item, unreadable))]
    if not known:
        return None
    drawn = grouped(known, lambda curves: (curves.item.data, curves.split))
    marks = style.marks(curves.item.family for curves in known)
    figure = style.new_figure(style.PAGE, HEIGHT * len(drawn))
    grid = figure.subplots(2 * len(drawn), 1, height_ratios=[1.5, 1] * len(drawn))
    looks = []
    for error, loss, ((data, split), own) in zip(grid[::2], grid[1::2], drawn.items(), strict=True):
        error.set_title(data)
        error.set_ylabel(error_axis([curves.item for curves in own], split))
        looks.append(_panels(error, loss, own, marks))
    figure.draw_without_rendering()  # now the heights of the panels are known
    for error, own, own_looks in zip(grid[::2], drawn.values(), looks, strict=True):
        _name_lines(error, error.get_window_extent().height / figure.dpi, own, own_looks)
    points = [row for curves in known for row in _rows(curves)]
    chosen_of = len(chosen) < sum(map(len, groups.values()))
    return Drawing(figure, points, _note([curves.item for curves in known], chosen_of, unreadable))


def mean_curve(runs: Sequence[Sequence[dict[str, float | None]]], column: str) -> Curve:
    """A column of metrics.csv by epoch, over runs.

    Args:
        runs: the rows of each run's metrics.csv. A run that was interrupted within an epoch has two
            rows for it; the last one with a value counts.
        column: such as "test_error".
    """
    known: dict[int, list[float]] = {}
    for rows in runs:
        for epoch, value in _values(rows, column).items():
            known.setdefault(epoch, []).append(value)
    values = [known[epoch] for epoch in sorted(known)]
    stds = [statistics.stdev(own) if len(own) > 1 else 0.0 for own in values]
    return Curve(sorted(known), [statistics.fmean(own) for own in values], stds)


def _values(rows: Sequence[dict[str, float | None]], column: str) -> dict[int, float]:
    pairs = ((row.get("epoch"), row.get(column)) for row in rows)
    return {
        int(epoch): value
        for epoch, value in pairs
        if epoch is not None and value is not None and math.isfinite(value)
    }


def _chosen(own: list[Setting]) -> list[Setting]:
    """All of them; of more than SHOWN, the best of each family and then the best of all others."""
    if len(own) <= SHOWN:
        return own
    known = sorted((item for item in own if item.mean("error") is not None), key=_error)
    first = [items[0] for items in grouped(known, lambda item: item.family).values()]
    best = [*first, *(item for item in known if item not in first)][:SHOWN]
    return sorted(best, key=_error)


def _error(item: Setting) -> float:
    return item.mean("error") or 0.0


def _curves(item: Setting, unreadable: list[str]) -> _Curves | None:
    runs = []
    for run in item.done:
        try:
            runs.append(read_metrics(run.folder))
        except UserError as error:
            unreadable.append(str(error))
    for split in ("test", "validation"):
        error_curve = mean_curve(runs, f"{split}_error")
        if error_curve.epochs:
            return _Curves(item, split, error_curve, mean_curve(runs, "train_loss"))
    return None


def _panels(
    error: Axes, loss: Axes, own: list[_Curves], marks: dict[str, style.Mark]
) -> list[dict[str, Any]]:
    """Draw one data set; return the look of each line."""
    shades = {family: iter(SHADES) for family in marks}
    looks: list[dict[str, Any]] = []
    for curves in own:
        mark = marks[curves.item.family]
        look = {"color": mark.colour, "ls": mark.line, "alpha": next(shades[curves.item.family])}
        _line(error, curves.error, look)
        _line(loss, curves.loss, look)
        looks.append(look)
    last = max(curves.error.epochs[-1] for curves in own)
    error.set_xlim(1 if last > 1 else 0.5, max(last, 1.5))
    error.set_ylim(0, _top([curves.error for curves in own]))
    error.tick_params(labelbottom=False)
    loss.set_xlim(error.get_xlim())
    style.logarithmic(loss, "y", "{:g}".format)
    for axes in (error, loss):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    loss.set_ylabel("training loss")
    loss.set_xlabel("epoch")
    return looks


def _line(axes: Axes, curve: Curve, look: dict[str, Any]) -> None:
    means, stds = np.array(curve.means), np.array(curve.stds)
    axes.plot(curve.epochs, means, lw=1, **look)
    axes.fill_between(curve.epochs, means - stds, means + stds, color=look["color"], alpha=0.18, lw=0)


def _top(curves: list[Curve]) -> float:
    """The upper limit of the axis: below the first epochs, whose errors would dwarf the last ones."""
    highest = max(max(curve.means) for curve in curves)
    return min(1.05 * highest, 4 * max(curve.means[-1] for curve in curves))


def _name_lines(axes: Axes, height: float, own: list[_Curves], looks: list[dict[str, Any]]) -> None:
    """Write the name of each setting beside the panel (`height` in inches), where its line ends."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    ends = [(curves.error.means[-1] - low) / (high - low) for curves in own]
    places = spread(ends, distance=0.26 / height, low=0.0, high=1.0)
    outside: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False}
    for curves, look, end, place in zip(own, looks, ends, places, strict=True):
        across = (curves.error.epochs[-1] - left) / (right - left)
        axes.plot([across, 1, 1.015], [end, end, place], color=style.GREY, lw=0.4, **outside)
        axes.plot([1.015, 1.055], [place, place], lw=1.5, **outside, **look)
        name = textwrap.shorten(curves.item.title, 50, placeholder=" …")
        label = textwrap.fill(f"{curves.error.means[-1]:.2f} %  {name}", 34)
        axes.text(1.065, place, label, transform=axes.transAxes, va="center", size=6.5, linespacing=1)


def _note(items: list[Setting], chosen_of: bool, unreadable: list[str]) -> str:
    text = f"Error and training loss at the end of each epoch; mean over seeds ({seeds(items)}), "
    text += "band: sample standard deviation."
    recipes = [run.config["recipe"] for item in items for run in item.done]
    if any(recipe.get("mixup") or recipe.get("cutmix") for recipe in recipes):
        text += " With mixup or cutmix the training loss is that of mixed images and labels."
    if chosen_of:
        text += (
            f" Of many settings {SHOWN} are shown: the one with the lowest error of each family, then "
            "those with the lowest errors of all."
        )
    return " ".join([text, *(f"Left out: {reason}." for reason in unreadable)])


def _rows(curves: _Curves) -> list[dict[str, object]]:
    error, loss = curves.error, curves.loss
    losses = dict(zip(loss.epochs, zip(loss.means, loss.stds, strict=True), strict=True))
    return [
        {
            "data": curves.item.data,
            "family": curves.item.family,
            "setting": curves.item.title,
            "n": curves.item.n,
            "epoch": epoch,
            f"{curves.split}_error_percent_mean": mean,
            f"{curves.split}_error_percent_std": std,
            "train_loss_mean": losses.get(epoch, (None, None))[0],
            "train_loss_std": losses.get(epoch, (None, None))[1],
        }
        for epoch, mean, std in zip(error.epochs, error.means, error.stds, strict=True)
    ]
