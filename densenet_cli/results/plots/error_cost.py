"""Error against parameters, multiply-adds or energy, one line per family, with the Pareto front.

Like figures 3 and 4 of arXiv:1608.06993; one panel per data set.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from densenet_cli import units
from densenet_cli.decisions.rule import UNDECIDED
from densenet_cli.figures import style
from densenet_cli.figures.drawing import Drawing, grouped
from densenet_cli.figures.labels import place_labels
from densenet_cli.record.differences import differing, phrase
from densenet_cli.results.baseline import Judged
from densenet_cli.results.plots.setting_labels import error_axis, seeds, short_name
from densenet_cli.results.settings import Setting

AXES = {
    "parameters": "parameters",
    "multiply_adds": "multiply-adds per image",
    "energy_joules": "energy of training (J)",
}
SIZES = {"depth", "growth_rate", "block_config", "widen_factor", "init_channels", "name"}
# Points on one line may differ in these options: the size of the network. (Data sets have own panels.)
MAY_DIFFER = {f"model.{name}" for name in SIZES} | {"data._target_", "data.augment"}
MANY = 60  # settings per panel; of more, lines, error bars and names would hide the points
VARIANT = 20  # characters beside a point about its other options; the CSV file has all


def draw(settings: Sequence[Setting], cost: str, judged: Judged | None = None) -> Drawing | None:
    """Mean error of the finished settings against a cost; None if no setting has both.

    Args:
        settings: those with finished runs are drawn.
        cost: one of AXES.
        judged: the decisions that the names are followed by; None for names only.
    """
    known = [item for item in settings if item.mean("error") is not None and item.mean(cost)]
    if not known:
        return None
    groups = grouped(known, lambda item: item.data)
    marks = style.marks(item.family for item in known)
    figure, grid = style.panels(len(groups), height=3.7)
    points = []
    labels = []
    words = {} if judged is None else judged.words()
    for axes, (data, members) in zip(grid, groups.items(), strict=True):
        on_front = front([_position(item, cost) for item in members])
        names = _panel(axes, members, cost, marks)
        first = [members[index] for index in on_front]
        rest = [] if len(members) > MANY else [item for item in members if item not in first]
        labels.append(
            [
                (*_position(item, cost), _with_word(names[item], words.get(item)))
                for item in first + rest
            ]
        )
        _front(axes, [_position(item, cost) for item in first])
        axes.set_title(data)
        for index, item in enumerate(members):
            row = _row(item, cost, index in on_front)
            points.append(row if judged is None else row | {"verdict": words.get(item)})
    figure.legend(handles=_legend(marks), loc="outside lower center", ncols=4 if len(grid) > 1 else 3)
    style.settle(figure)
    for axes, own in zip(grid, labels, strict=True):
        place_labels(axes, own)
    return Drawing(figure, points, " ".join([_note(known, cost), *_note_on_words(judged)]))


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """The points of the Pareto front: no other point is as small in both numbers and smaller in one.

    Returns:
        Their indices, in the order of the first number.
    """

    def dominated(point: tuple[float, float]) -> bool:
        return any(other[0] <= point[0] and other[1] <= point[1] and other != point for other in points)

    best = [index for index, point in enumerate(points) if not dominated(point)]
    return sorted(best, key=lambda index: points[index])


def _position(item: Setting, cost: str) -> tuple[float, float]:
    return item.mean(cost) or 0.0, item.mean("error") or 0.0


def _panel(
    axes: Axes, members: list[Setting], cost: str, marks: dict[str, style.Mark]
) -> dict[Setting, str]:
    """Draw the settings of one data set; return their names."""
    names: dict[Setting, str] = {}
    for family, own in grouped(members, lambda item: item.family).items():
        variants = sorted(_variants(own).items(), key=lambda pair: -len(pair[1]))
        for number, (variant, alike) in enumerate(variants):
            if len(members) > MANY:
                _points(axes, alike, cost, marks[family])
            else:
                _line(axes, alike, cost, marks[family], filled=number == 0)
            suffix = textwrap.shorten(variant, VARIANT, placeholder=" …")
            names |= {item: ", ".join(filter(None, [short_name(item), suffix])) for item in alike}
    axes.margins(x=0.12, y=0.1)
    style.logarithmic(axes, "x", units.count)
    axes.set_xlabel(AXES[cost])
    axes.set_ylabel(error_axis(members))
    return names


def _front(axes: Axes, best: list[tuple[float, float]]) -> None:
    """Draw the Pareto front, and a ring around each of its points."""
    axes.step(*zip(*best, strict=True), where="post", color=style.INK, lw=0.7, ls=":", zorder=1.5)
    axes.plot(*zip(*best, strict=True), "o", ms=9.5, mfc="none", mec=style.INK, mew=0.8, zorder=4)


def _with_word(name: str, word: str | None) -> str:
    return name if word in (None, UNDECIDED) else f"{name}: {word}"


def _note_on_words(judged: Judged | None) -> list[str]:
    if judged is None:
        return []
    return [
        f"Names are followed by what is decided about the mean test error, compared with the baseline, "
        f"{judged.baseline.title}; where nothing follows, nothing is."
    ]


def _variants(own: list[Setting]) -> dict[str, list[Setting]]:
    """Settings of a family by the options in which they differ, size apart: "θ=0.3", "5 epochs", ""."""
    options = {
        item: {name: value for name, value in item.options.items() if name not in MAY_DIFFER}
        for item in own
    }
    names = differing(list(options.values()))

    def variant(item: Setting) -> str:
        return ", ".join(phrase(name, options[item][name]) for name in names if name in options[item])

    return grouped(own, variant)


def _points(axes: Axes, own: list[Setting], cost: str, mark: style.Mark) -> None:
    """Small, pale points, which are darker where they are dense."""
    x, y = zip(*(_position(item, cost) for item in own), strict=True)
    axes.plot(x, y, mark.marker, color=mark.colour, ms=3, mew=0, alpha=0.4)


def _line(axes: Axes, own: list[Setting], cost: str, mark: style.Mark, filled: bool) -> None:
    own = sorted(own, key=lambda item: _position(item, cost))
    x, y = zip(*(_position(item, cost) for item in own), strict=True)
    spread = [item.std("error") or 0.0 for item in own]
    axes.errorbar(x, y, spread, fmt="none", ecolor=mark.colour, elinewidth=0.9, capsize=2, zorder=2)
    face, edge = (mark.colour, style.PAPER) if filled else (style.PAPER, mark.colour)
    axes.plot(x, y, mark.marker, mfc=face, mec=edge, mew=0.4 if filled else 1, zorder=3)
    joined = range(len(own)) if _is_series(own) else front(list(zip(x, y, strict=True)))
    axes.plot([x[i] for i in joined], [y[i] for i in joined], color=mark.colour, ls=mark.line, lw=1.1)


def _is_series(own: list[Setting]) -> bool:
    """Whether only one measure of size differs, as the depth at the same growth rate."""
    models = [{name: item.config["model"].get(name) for name in SIZES} for item in own]
    return len(differing(models)) <= 1


def _legend(marks: dict[str, style.Mark]) -> list[Line2D]:
    lines = [
        Line2D([], [], color=mark.colour, marker=mark.marker, ls=mark.line, mec=style.PAPER)
        for mark in marks.values()
    ]
    ring = Line2D([], [], color=style.INK, marker="o", ms=9, mfc="none", mew=0.8, ls=":", lw=0.7)
    for line, label in zip([*lines, ring], [*marks, "Pareto front"], strict=True):
        line.set_label(label)
    return [*lines, ring]


def _note(known: list[Setting], cost: str) -> str:
    crowded = max(map(len, grouped(known, lambda item: item.data).values())) > MANY
    few = " Of many settings only those on the front are named, and no lines are drawn."
    return (
        f"Mean test error against {AXES[cost]}; error bars: sample standard deviation over seeds "
        f"({seeds(known)}). Rings and dotted line: the Pareto front; no network shown is both cheaper "
        "and better than one of these. A line joins the networks of a family if only one measure of "
        "their size differs, such as the depth, and else those on the Pareto front of the family."
    ) + (few if crowded else "")


def _row(item: Setting, cost: str, on_front: bool) -> dict[str, object]:
    return {
        "data": item.data,
        "family": item.family,
        "setting": item.title,
        cost: item.mean(cost),
        "error_percent_mean": item.mean("error"),
        "error_percent_std": item.std("error"),
        "n": item.n,
        "on_pareto_front": on_front,
    }
