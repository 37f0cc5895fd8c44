"""The figure that the studies of gradients and of maps share: two quantities along the layers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from densenet_cli import units
from densenet_cli.analysis.network_label import NetworkLabel, legend, marks
from densenet_cli.figures import style
from densenet_cli.figures.drawing import Drawing


def draw(
    rows: Mapping[NetworkLabel, Sequence[Any]],
    quantities: Mapping[str, str],
    note: str,
    logarithmic: bool,
) -> Drawing:
    """A panel for each of two quantities, a line for each network, from its first layer to its last.

    Args:
        rows: for each network a dataclass for each layer, from input to output.
        quantities: two of the dataclass's fields, and the labels of their axes.
        note: the caption.
        logarithmic: whether the quantities are drawn on logarithmic axes; else they are shares, 0..1,
            and drawn in percent.
    """
    with style.styled():
        figure = style.new_figure(style.PAGE, 3.2)
        mark_of = marks(rows)
        for axes, (name, axis_label) in zip(figure.subplots(1, 2), quantities.items(), strict=True):
            for network, layers in rows.items():
                factor = 1 if logarithmic else 100
                _line(axes, [factor * getattr(layer, name) for layer in layers], mark_of[network])
            axes.set(xlabel="place in the network", ylabel=axis_label)
            if logarithmic:
                style.logarithmic(axes, "y", units.magnitude)
            else:
                axes.set_ylim(0, max(1, axes.get_ylim()[1]))  # percent
        figure.legend(handles=legend(mark_of), loc="outside lower center", ncols=3)
    points = [
        {"network": network.title, "position": position, **dataclasses.asdict(layer)}
        for network, layers in rows.items()
        for position, layer in enumerate(layers, start=1)
    ]
    return Drawing(figure, points, note)


def _line(axes: Axes, values: Sequence[float], mark: style.Mark) -> None:
    places = [position / max(len(values) - 1, 1) for position in range(len(values))]
    axes.plot(places, values, mark.marker, color=mark.colour, ls=mark.line, ms=3, lw=1)
