"""The test images that a network is surest of, and wrong about."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from torch import Tensor

from densenet_cli.analysis.mistakes.calibration import Mistake
from densenet_cli.figures import style
from densenet_cli.figures.drawing import Drawing
from densenet_cli.plain_text import as_title

COLUMNS = 6
LONGEST_NAME = 14  # letters of a class


def draw_mistakes(
    mistakes: Sequence[Mistake],
    pixels: Sequence[Tensor],
    class_names: Sequence[str],
    title: str = "",
) -> Drawing:
    """A picture a mistake, the surest first, with what it was taken for and what it is.

    Args:
        mistakes: at least one.
        pixels: the picture of each, (H, W, 3), 0..1.
        class_names: label 0 first.
        title: the network's name.
    """
    rows = math.ceil(len(mistakes) / COLUMNS)
    with style.styled():
        figure = style.new_figure(style.PAGE, 0.4 + 1.6 * rows)
        grid = figure.subplots(rows, COLUMNS, squeeze=False).ravel().tolist()
        for axes in grid:
            axes.set_axis_off()
        for axes, mistake, picture in zip(grid, mistakes, pixels, strict=False):
            _show(axes, mistake, picture, class_names)
        figure.suptitle(title, x=0.01, ha="left", fontsize=9, fontweight="bold")
    points = [
        {
            "image": mistake.image,
            "class": class_names[mistake.label],
            "taken_for": class_names[mistake.predicted],
            "confidence": mistake.confidence,
        }
        for mistake in mistakes
    ]
    note = "What each test image was taken for, with the confidence in it, and its true class."
    return Drawing(figure, points, note)


def _show(axes: Axes, mistake: Mistake, picture: Tensor, class_names: Sequence[str]) -> None:
    axes.imshow(picture.numpy(), interpolation="nearest")
    said = f"{as_title(class_names[mistake.predicted], LONGEST_NAME)} {100 * mistake.confidence:.0f} %"
    axes.set_title(
        f"{said}\nis {as_title(class_names[mistake.label], LONGEST_NAME)}",
        fontsize=7,
        fontweight="normal",
        loc="center",
    )
