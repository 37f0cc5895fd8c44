"""Figures of a network's mistakes: reliability diagram, confusion matrix, the most confident ones."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import matplotlib
from matplotlib.axes import Axes
from torch import Tensor

from densenet_cli.analysis.mistakes.calibration import Bin, Mistake
from densenet_cli.analysis.network_label import NetworkLabel, legend, marks
from densenet_cli.figures import style
from densenet_cli.figures.drawing import Drawing
from densenet_cli.plain_text import as_title

COLOURS = matplotlib.colormaps["Blues"]
COLUMNS = 6  # of images
LONGEST_NAME = 14  # letters of a class above an image


def draw_reliability(reliability: Mapping[NetworkLabel, Sequence[Bin]]) -> Drawing:
    """Accuracy against confidence, a line for each network; above it the share of images in each bin.

    Args:
        reliability: the bins of each network, from `calibration.reliability`.
    """
    with style.styled():
        figure = style.new_figure(style.COLUMN, 5.2)
        number, accuracy = figure.subplots(2, 1, sharex=True, height_ratios=[1, 3])
        mark_of = marks(reliability)
        for network, bins in reliability.items():
            mark = mark_of[network]
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
        figure.legend(handles=legend(mark_of), loc="outside lower center", ncols=2)
    rows = [
        {"network": network.title, **dataclasses.asdict(part)}
        for network, bins in reliability.items()
        for part in bins
    ]
    note = "Accuracy and mean confidence in each bin of confidence. Dotted: perfect calibration."
    return Drawing(figure, rows, note)


def draw_confusion(confusion: Tensor, class_names: Sequence[str], title: str = "") -> Drawing:
    """The percentage of each class's images that is predicted as each class.

    Args:
        confusion: images of each class (row) predicted as each class (column), (C, C).
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
        axes.set(ylim=(number, 0), aspect="equal", xlabel="predicted class", ylabel="true class")
        axes.set_title(title)
        axes.grid(False)
    rows = [
        {"class": name, "predicted": other, "images": int(confusion[row, column])}
        for row, name in enumerate(class_names)
        for column, other in enumerate(class_names)
    ]
    return Drawing(
        figure, rows, "The percentage of each class's images that is predicted as each class."
    )


def draw_mistakes(
    mistakes: Sequence[Mistake],
    pixels: Sequence[Tensor],
    class_names: Sequence[str],
    title: str = "",
) -> Drawing:
    """An image for each mistake, the most confident first, with its predicted and its true class.

    Args:
        mistakes: at least one.
        pixels: the image of each, (H, W, 3), 0..1.
        class_names: label 0 first.
        title: the network's name.
    """
    rows = math.ceil(len(mistakes) / COLUMNS)
    with style.styled():
        figure = style.new_figure(style.PAGE, 0.4 + 1.6 * rows)
        grid = figure.subplots(rows, COLUMNS, squeeze=False).ravel().tolist()
        for axes in grid:
            axes.set_axis_off()
        for axes, mistake, image in zip(grid, mistakes, pixels, strict=False):
            _show(axes, mistake, image, class_names)
        figure.suptitle(title, x=0.01, ha="left", fontsize=9, fontweight="bold")
    points = [
        {
            "image": mistake.image,
            "class": class_names[mistake.label],
            "predicted": class_names[mistake.predicted],
            "confidence": mistake.confidence,
        }
        for mistake in mistakes
    ]
    note = "Test images that are classified wrongly: predicted class and its confidence, true class."
    return Drawing(figure, points, note)


def _show(axes: Axes, mistake: Mistake, image: Tensor, class_names: Sequence[str]) -> None:
    predicted, true = (
        as_title(class_names[i], LONGEST_NAME) for i in (mistake.predicted, mistake.label)
    )
    axes.imshow(image.numpy(), interpolation="nearest")
    words = f"{predicted} ({100 * mistake.confidence:.0f} %)\nis {true}"
    axes.set_title(words, fontsize=7, fontweight="normal", loc="center")
