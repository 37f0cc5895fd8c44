"""Training time and memory as bars: a panel for each data set and device."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from densenet_cli.figures import style
from densenet_cli.figures.drawing import Drawing, grouped
from densenet_cli.plain_text import as_title
from densenet_cli.results.records import Run
from densenet_cli.results.settings import Setting, measured

SHOWN = 24  # bars per panel; of more settings, those with the lowest error
BAR = 0.21  # inches per bar
TITLE = 48  # letters of a setting's title
LABELS = {"seconds": "whole run", "seconds_per_epoch": "one epoch", "peak_memory_bytes": "peak memory"}

Measure = Callable[[Run], float | None]


@dataclass(frozen=True)
class _Bar:
    """A setting's finished runs on one kind of device."""

    item: Setting
    runs: list[Run]

    def values(self, measure: Measure) -> list[float]:
        return [value for run in self.runs if (value := measure(run)) is not None]


def draw_training_time(settings: Sequence[Setting]) -> Drawing | None:
    """The time of the finished runs, and the training time of one epoch; None if not recorded."""
    return _draw(
        settings,
        {"seconds": _seconds, "seconds_per_epoch": _seconds_per_epoch},
        "Time of the whole run, including tests, and training time of one epoch",
    )


def draw_memory(settings: Sequence[Setting]) -> Drawing | None:
    """The peak memory of the finished runs; None if not recorded."""
    return _draw(
        settings,
        {"peak_memory_bytes": lambda run: measured(run, "peak_memory_bytes")},
        "Peak memory: on a GPU that of all tensors, on a CPU that of the whole process",
    )


def device(run: Run) -> str:
    """The device of a run: "8 × NVIDIA H100 80GB HBM3, bf16-mixed"."""
    fields = run.fields
    processes = fields.get("processes") or 1
    text = f"{fields.get('device', 'unknown device')}, {fields.get('precision', 'unknown precision')}"
    return as_title(text if processes == 1 else f"{processes} × {text}")


def _seconds(run: Run) -> float | None:
    return measured(run, "seconds")


def _seconds_per_epoch(run: Run) -> float | None:
    seconds, epochs = measured(run, "train_seconds"), run.fields.get("epoch")
    return seconds / epochs if seconds and epochs else None


def _draw(settings: Sequence[Setting], measures: dict[str, Measure], note: str) -> Drawing | None:
    groups = _groups(settings, next(iter(measures.values())))
    if not groups:
        return None
    numbers = [len(own) for own in groups.values()]
    figure = style.new_figure(style.PAGE, sum(BAR * number + 0.85 for number in numbers))
    ratios = [number + 1.5 for number in numbers]
    rows = figure.subplots(len(groups), len(measures), squeeze=False, height_ratios=ratios)
    marks = style.marks(bar.item.family for own in groups.values() for bar in own)
    for row, ((data, where), own) in zip(rows, groups.items(), strict=True):
        for axes, (name, measure) in zip(row, measures.items(), strict=True):
            _panel(axes, own, name, measure, marks)
        row[0].set_yticks(range(len(own)), [as_title(bar.item.title, TITLE) for bar in own])
        row[0].set_title(f"{data}: {where}")
    note += ". Mean over seeds, whiskers: sample standard deviation. One panel per data set and device"
    note += f", with the {SHOWN} settings of lowest error." if max(numbers) == SHOWN else "."
    points = [_row(data, where, bar, measures) for (data, where), own in groups.items() for bar in own]
    return Drawing(figure, points, note)


def _groups(settings: Sequence[Setting], measure: Measure) -> dict[tuple[str, str], list[_Bar]]:
    """Bars by data set and device: at most SHOWN, those with the lowest error, shortest first."""
    bars = [
        ((item.data, where), _Bar(item, runs))
        for item in settings
        for where, runs in grouped((run for run in item.done if measure(run)), device).items()
    ]
    groups = {key: [bar for _, bar in own] for key, own in grouped(bars, lambda pair: pair[0]).items()}
    return {
        key: sorted(
            sorted(own, key=_error)[:SHOWN], key=lambda bar: statistics.fmean(bar.values(measure))
        )
        for key, own in groups.items()
    }


def _error(bar: _Bar) -> float:
    error = bar.item.mean("error")
    return math.inf if error is None else error


def _panel(
    axes: Axes, own: list[_Bar], name: str, measure: Measure, marks: dict[str, style.Mark]
) -> None:
    values = [bar.values(measure) for bar in own]
    means = [statistics.fmean(value) if value else 0.0 for value in values]
    label, (unit, unit_name) = LABELS[name], _unit(name, max(means))
    deviations = [statistics.stdev(value) if len(value) > 1 else 0.0 for value in values]
    for y, (bar, value, mean) in enumerate(zip(own, values, means, strict=True)):
        std = deviations[y] / unit
        axes.barh(y, mean / unit, height=0.68, color=marks[bar.item.family].colour, alpha=0.85)
        if std:
            axes.errorbar(mean / unit, y, xerr=std, ecolor=style.INK, elinewidth=0.8, capsize=1.5)
        text = f"{mean / unit:#.3g}".rstrip(".") if value else "not measured"
        end = (mean / unit + std, y)
        axes.annotate(text, end, (4, 0), textcoords="offset points", va="center", size=6.5)
    longest = max(mean + std for mean, std in zip(means, deviations, strict=True))
    axes.set(xlim=(0, 1.16 * longest / unit), ylim=(len(own) - 0.4, -0.6), yticks=[])
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0, labelsize=6.5)
    axes.set_xlabel(f"{label} ({unit_name})")


def _unit(name: str, largest: float) -> tuple[float, str]:
    return (1e9, "GB") if name == "peak_memory_bytes" else style.duration_unit(largest)


def _row(data: str, where: str, bar: _Bar, measures: dict[str, Measure]) -> dict[str, object]:
    row: dict[str, object] = {
        "data": data,
        "device": where,
        "family": bar.item.family,
        "setting": bar.item.title,
        "n": len(bar.runs),
    }
    for name, measure in measures.items():
        values = bar.values(measure)
        row[f"{name}_mean"] = statistics.fmean(values) if values else None
        row[f"{name}_std"] = statistics.stdev(values) if len(values) > 1 else None
    return row
