"""Whether networks know when they are wrong, and what they take for what."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import matplotlib
from torch import Tensor

from densenet_cli.analysis.mistakes.calibration import Bin
from densenet_cli.analysis.network_label import Subject, legend, marks
from densenet_cli.figures import style
from densenet_cli.figures.drawing import Drawing
from densenet_cli.plain_text import as_title

COLOURS = matplotlib.colormaps["Blues"]


def draw_reliability(reliability: Mapping[Subject, Sequence[Bin]]) -> Drawing:
    """Accuracy against confidence, a line a network; above, how many images have that confidence.

    Args:
        reliability: of each network what `calibration.reliability` gives.
    """
    with style.styled():
        figure = style.new_figure(style.COLUMN, 5.2)
        number, accuracy = figure.subplots(2, 1, sharex=True, height_ratios=[1, 3])
        looks = marks(reliability)
        for subject, bins in reliability.items():
            mark = looks[subject]
            filled = [part for part in bins if part.images]
            points = [part.confidence for part in filled], [part.accuracy for part in filled]
            accuracy.plot(
                *points, mark.marker, color=mark.colour, ls=mark.line, ms=4, lw=1, clip_on=False
            )
            shares = [100 * part.images / sum(other.images for other in bins) for part in bins]
            edges = [bins[0].low, *(part.high for part in bins)]
            number.stairs(shares, edges, color=mark.colour, ls=mark.line, lw=1)
        accuracy.plot([0, 1], [0, 1], color=style.INK, lw=0.7, ls=":")
        accuracy.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy")
        number.set(ylabel="images (%)")
        figure.legend(handles=legend(looks), loc="outside lower center", ncols=2)
    rows = [
        {"network": subject.title, **dataclasses.asdict(part)}
        for subject, bins in reliability.items()
        for part in bins
    ]
    note = "Accuracy and mean confidence of the images in each bin of confidence. Dotted: calibrated."
    return Drawing(figure, rows, note)


def draw_confusion(confusion: Tensor, class_names: Sequence[str], title: str = "") -> Drawing:
    """What share of each class's images is taken for each class, in percent.

    Args:
        confusion: images of each class (row) taken for each class (column), (C, C).
        class_names: label 0 first.
        title: the network's name.
    """
    names = [as_title(name) for name in class_names]
    shares = (100 * confusion / confusion.sum(1, keepdim=True)).tolist()
    number = len(shares)
    with style.styled():
        figure = style.new_figure(style.COLUMN, style.COLUMN)
        axes = figure.subplots()
        axes.pcolormesh(shares, cmap=COLOURS, vmin=0, vmax=100)
        for row, column in ((r, c) for r in range(number) for c in range(number)):
            share = shares[row][column]
            if number <= 20 and not math.isnan(share) and round(share, 1):
                ink = style.PAPER if share > 50 else style.INK
                place = column + 0.5, row + 0.5
                axes.text(*place, f"{share:.1f}", ha="center", va="center", size=6, color=ink)
        ticks = [position + 0.5 for position in range(number)]
        axes.set_xticks(ticks, names, rotation=90)
        axes.set_yticks(ticks, names)
        axes.tick_params(labelsize=min(7.5, 250 / number))
        axes.set(ylim=(number, 0), aspect="equal", xlabel="taken for", ylabel="class")
        axes.set_title(title)
        axes.grid(False)
    rows = [
        {"class": name, "taken_for": other, "images": int(confusion[row, column])}
        for row, name in enumerate(class_names)
        for column, other in enumerate(class_names)
    ]
    return Drawing(figure, rows, "Of each class's images, the percentage taken for each class.")
