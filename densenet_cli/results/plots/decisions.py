"""Differences from a baseline, with their intervals: which of them hold."""

from __future__ import annotations

from matplotlib.axes import Axes

from densenet_cli.decisions.rule import UNDECIDED
from densenet_cli.figures import style
from densenet_cli.figures.drawing import Drawing
from densenet_cli.plain_text import as_title
from densenet_cli.results.baseline import Judged, Verdict

SHOWN = 40  # settings at most: those with the lowest error
ROW = 0.21  # inches
TITLE = 48  # letters of a setting's title


def draw(judged: Judged) -> Drawing | None:
    """A row for each setting, the lowest error first; None if no difference is known.

    Args:
        judged: the baseline, and the settings that were compared with it.
    """
    known = [one for one in judged.verdicts if one.comparison.difference is not None]
    known.sort(key=lambda one: one.comparison.difference or 0.0)
    if not known:
        return None
    rows = known[:SHOWN]
    marks = style.marks(one.setting.family for one in rows)
    figure = style.new_figure(style.PAGE, ROW * len(rows) + 1.0)
    axes = figure.subplots()
    axes.axvline(0, color=style.INK, linewidth=0.8)
    if judged.margin is not None:
        axes.axvspan(-judged.margin, judged.margin, color=style.GREY, alpha=0.2, linewidth=0)
    for y, one in enumerate(rows):
        _row(axes, y, one, marks[one.setting.family])
    axes.set(ylim=(len(rows) - 0.4, -0.6))
    axes.set_yticks(range(len(rows)), [as_title(one.setting.title, TITLE) for one in rows])
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0, labelsize=6.5)
    words = axes.secondary_yaxis("right")
    words.set_yticks(range(len(rows)), [one.comparison.word for one in rows])
    words.tick_params(length=0, labelsize=6.5)
    axes.set_xlabel(f"test error − that of {as_title(judged.baseline.title, TITLE)} (percent points)")
    return Drawing(figure, [_point(one, judged) for one in known], _note(judged, len(known)))


def _row(axes: Axes, y: int, one: Verdict, mark: style.Mark) -> None:
    found = one.comparison
    if found.low is not None and found.high is not None:
        axes.plot([found.low, found.high], [y, y], color=mark.colour, linewidth=1.2)
    axes.plot(
        found.difference or 0.0,
        y,
        marker=mark.marker,
        color=mark.colour,
        markerfacecolor=style.PAPER if found.word == UNDECIDED else mark.colour,
        markersize=5,
    )


def _note(judged: Judged, known: int) -> str:
    words = [
        f"Mean test error − that of the baseline, {judged.baseline.title}; negative is better.",
        "Lines: 95 % intervals over seeds, not corrected.",
        "Filled: decided, by t-tests corrected for all comparisons (Holm); open: undecided.",
    ]
    if judged.margin is not None:
        words.append(f"Grey: the margin of ±{judged.margin:g} points within which errors are equal.")
    if known > SHOWN:
        words.append(f"The {SHOWN} settings with the lowest errors of {known:,}.")
    return " ".join(words)


def _point(one: Verdict, judged: Judged) -> dict[str, object]:
    found = one.comparison
    return {
        "data": one.setting.data,
        "family": one.setting.family,
        "setting": one.setting.title,
        "baseline": judged.baseline.title,
        "n": found.n,
        "n_baseline": found.n_baseline,
        "paired": found.paired,
        "difference_points": found.difference,
        "low_points": found.low,
        "high_points": found.high,
        "p_holm": found.p_holm,
        "verdict": found.word,
    }
