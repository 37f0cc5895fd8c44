"""Feature reuse as heat maps, a triangle for each dense block: figure 5 of arXiv:1608.06993."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from densenet_cli.analysis.reuse.feature_reuse import BlockReuse
from densenet_cli.figures import style
from densenet_cli.figures.drawing import Drawing

COLOURS = matplotlib.colormaps["cividis"]  # equally readable with colour blindness
ROW = 3  # blocks at most in one row; more blocks are drawn two a row
NOTE = (
    "Mean absolute weight with which a layer (column) reads the maps of a source (row), relative to "
    "the largest of its column. Row 0: the block's input. In the box: the transition or classifier."
)


def draw(reuse: Sequence[BlockReuse], title: str = "") -> Drawing:
    """The connections of each block, with a box around the transition or classifier.

    Colours show `BlockReuse.relative`; the CSV file has the weights too.

    Args:
        reuse: the result of `feature_reuse`.
        title: the network's name.
    """
    with style.styled():
        columns = len(reuse) if len(reuse) <= ROW else 2
        rows = math.ceil(len(reuse) / columns)
        width = style.PAGE if columns > 1 else style.COLUMN
        figure = style.new_figure(width, rows * width / columns + 0.1)
        grid = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
        for spare in grid[len(reuse) :]:
            spare.remove()
        for number, (axes, block) in enumerate(zip(grid, reuse, strict=False), start=1):
            _triangle(axes, block)
            axes.set_title(f"block {number}")
        scale = ScalarMappable(Normalize(0, 1), COLOURS)
        bar = figure.colorbar(scale, ax=grid[: len(reuse)], shrink=0.7, pad=0.02, aspect=30)
        bar.set_label("mean |weight| / largest of the column")
        bar.outline.set_visible(False)
        figure.suptitle(title, size=9)
    points = [row for number, block in enumerate(reuse, start=1) for row in _rows(number, block)]
    return Drawing(figure, points, NOTE)


def _triangle(axes: Axes, block: BlockReuse) -> None:
    size = len(block.weights)
    edges = [position - 0.5 for position in range(size + 1)]
    across = [edge + 1 for edge in edges]  # readers count from 1, sources from 0
    axes.pcolormesh(across, edges, block.relative().numpy(), cmap=COLOURS, vmin=0, vmax=1)
    box = Rectangle((size - 0.5, -0.5), 1, size, fill=False, ec=style.COLOURS["vermilion"], lw=1.4)
    box.set_clip_on(False)
    axes.add_patch(box)
    axes.set(xlim=(0.5, size + 0.5), ylim=(size - 0.5, -0.5), aspect="equal")
    axes.set(xlabel="target layer ℓ", ylabel="source layer s")
    word = block.reader_after.rstrip("0123456789")
    place: dict[str, Any] = {"xytext": (3, 0), "textcoords": "offset points", "annotation_clip": False}
    axes.annotate(word, (size + 0.5, (size - 1) / 2), rotation=90, va="center", size=7, **place)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=2)


def _rows(number: int, block: BlockReuse) -> list[dict[str, object]]:
    relative = block.relative()
    names = [*map(str, range(1, len(relative))), block.reader_after]
    return [
        {
            "block": number,
            "source": source,
            "target": name,
            "mean_absolute_weight": float(block.weights[source, reader]),
            "relative_to_largest": float(relative[source, reader]),
        }
        for reader, name in enumerate(names)
        for source in range(reader + 1)
    ]
