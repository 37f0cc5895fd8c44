"""Labels beside points and at the ends of lines, placed so that they do not overlap."""

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

RADIUS = 5  # of a point, in pixels
SIZE = 6.5  # of the text, in typographic points
MOST = 60  # labels per panel; more would hide the points
# A place for a label: its offset from the point in typographic points, and which part of the label is
# there, horizontally and vertically (0: its left or lower edge, 1: its right or upper edge).
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
IN_COLUMN: list[Place] = [  # above or below, farther and farther away
    place for way in range(7, 80, 6) for place in (((0, way), (0.5, 0)), ((0, -way), (0.5, 1)))
]
HORIZONTAL = {0: "left", 0.5: "center", 1: "right"}
VERTICAL = {0: "bottom", 0.5: "center", 1: "top"}


def place_labels(
    axes: Axes, labels: Sequence[tuple[float, float, str]], places: Sequence[Place] = BESIDE
) -> None:
    """Write each label (x, y, text) beside its point; leave out labels for which there is no space.

    Each takes a place that touches no other label and no point, and as few lines as possible. Earlier
    labels choose first. The layout of the figure must be final: see `style.settle`.
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
    """The area of a label of this extent in a place; `pixels` per typographic point."""
    offset, part = np.array(place)
    corner = centre + pixels * offset - part * extent.size
    return Bbox([corner, corner + extent.size])


def _along_lines(axes: Axes) -> np.ndarray:
    """Points along the lines drawn, in pixels, denser than any label is wide: (N, 2)."""
    dense = [np.zeros((0, 2))]
    for line in axes.get_lines():
        ends = line.get_transform().transform(line.get_xydata())
        if line.get_linestyle() != "None":
            dense += [np.linspace(a, b, 60) for a, b in itertools.pairwise(ends)]
    return np.concatenate(dense)


def _inside(box: Bbox, frame: Bbox) -> bool:
    return frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1


def spread(heights: Sequence[float], distance: float, low: float, high: float) -> list[float]:
    """The heights, moved until neighbours are `distance` apart; from low to high if there is space."""
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
