"""Texts beside points and at the ends of lines, which do not lie on one another."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

from densenet_cli.figures import style

RADIUS = 5  # pixels that a point takes
SIZE = 6.5  # of the texts, in typographic points
MOST = 60  # labels of a panel; more would hide the points
# Where a text may stand: its offset from the point in typographic points, and what of it is there
# (0: its left or lower edge, 1: its right or upper edge).
Place = tuple[tuple[float, float], tuple[float, float]]
BESIDE: list[Place] = [
    ((6, 4), (0, 0)),
    ((-6, -4), (1, 1)),
    ((6, -4), (0, 1)),
    ((-6, 4), (1, 0)),
    ((8, 0), (0, 0.5)),
    ((-8, 0), (1, 0.5)),
    ((0, 7), (0.5, 0)),
    ((0, -7), (0.5, 1)),
]
IN_COLUMN: list[Place] = [  # above or below, ever farther
    place for way in range(7, 80, 6) for place in (((0, way), (0.5, 0)), ((0, -way), (0.5, 1)))
]
HORIZONTAL = {0: "left", 0.5: "center", 1: "right"}
VERTICAL = {0: "bottom", 0.5: "center", 1: "top"}


def place_labels(
    axes: Axes, labels: Sequence[tuple[float, float, str]], places: Sequence[Place] = BESIDE
) -> None:
    """Write each text (x, y, text) at its point; leave out those for which there is no room.

    Earlier ones choose first: a place that touches no other text or point, and no line if possible.
    The figure must be laid out already, and stay so.
    """
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    assert isinstance(figure.canvas, FigureCanvasAgg)
    renderer, frame = figure.canvas.get_renderer(), axes.get_window_extent()
    centres = axes.transData.transform([(x, y) for x, y, _ in labels])
    taken = [Bbox.from_bounds(x - RADIUS, y - RADIUS, 2 * RADIUS, 2 * RADIUS) for x, y in centres]
    lines = _along_lines(axes)
    for (x, y, text), centre in list(zip(labels, centres, strict=True))[:MOST]:
        label = axes.annotate(text, (x, y), (0, 0), textcoords="offset points", size=SIZE)
        label.set_path_effects([withStroke(linewidth=1.8, foreground=style.PAPER)])
        extent = label.get_window_extent(renderer)
        boxes = [_box(centre, extent, place, figure.dpi / 72) for place in places]
        free = [
            (box.count_contains(lines), rank)
            for rank, box in enumerate(boxes)
            if _inside(box, frame) and not any(box.overlaps(other) for other in taken)
        ]
        if not free:
            label.remove()
            continue
        best = min(free)[1]
        label.xyann, (across, up) = places[best]
        label.set(ha=HORIZONTAL[across], va=VERTICAL[up])
        taken.append(boxes[best])


def _box(centre: np.ndarray, extent: Bbox, place: Place, pixels: float) -> Bbox:
    """What a text of that extent covers in a place beside a point; `pixels` in a typographic point."""
    offset, part = np.array(place)
    corner = centre + pixels * offset - part * extent.size
    return Bbox([corner, corner + extent.size])


def _along_lines(axes: Axes) -> np.ndarray:
    """Points on the lines drawn, in pixels, close enough that none slips through a text: (N, 2)."""
    dense = [np.zeros((0, 2))]
    for line in axes.get_lines():
        ends = line.get_transform().transform(line.get_xydata())
        if line.get_linestyle() != "None":
            dense += [np.linspace(a, b, 60) for a, b in itertools.pairwise(ends)]
    return np.concatenate(dense)


def _inside(box: Bbox, frame: Bbox) -> bool:
    return frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1


def spread(heights: Sequence[float], distance: float, low: float, high: float) -> list[float]:
    """The heights moved until neighbours are `distance` apart; within low to high if there is room."""
    order = sorted(range(len(heights)), key=lambda index: heights[index])
    placed = [0.0] * len(heights)
    floor = low
    for index in order:
        placed[index] = max(heights[index], floor)
        floor = placed[index] + distance
    ceiling = high
    for index in reversed(order):
        placed[index] = min(placed[index], ceiling)
        ceiling = placed[index] - distance
    return placed
