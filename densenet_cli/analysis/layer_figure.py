"""Quantities along the layers of several networks: gradients; dead and redundant maps."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from densenet_cli import units
from densenet_cli.analysis.gradients.gradient_flow import LayerGradient
from densenet_cli.analysis.maps.feature_maps import Activation
from densenet_cli.analysis.network_label import Subject, legend, marks
from densenet_cli.figures import style
from densenet_cli.figures.drawing import Drawing

GRADIENTS = {"weight": "gradient norm, weights", "output": "gradient norm, a layer's output"}
MAPS = {"dead": "dead maps (%)", "redundant": "redundant maps (%)"}


def draw_gradients(gradients: Mapping[Subject, Sequence[LayerGradient]]) -> Drawing:
    """The gradient norms of each network's layers, from input to output, on logarithmic axes."""
    note = (
        "Norm of the gradient of the loss with respect to each layer's weights, and with respect to "
        "what the layer gives for one image, from the first layer (0) to the last (1)."
    )
    return _draw(gradients, GRADIENTS, note, logarithmic=True)


def draw_feature_maps(found: Mapping[Subject, Sequence[Activation]]) -> Drawing:
    """The shares of dead and of redundant maps in what each ReLU gives, from input to output."""
    note = (
        "Share of maps that are zero on all images, and of those whose correlation with an earlier map "
        "of the same layer is beyond ±0.9, from the first ReLU (0) to the last (1)."
    )
    return _draw(found, MAPS, note, logarithmic=False)


def _draw(
    rows: Mapping[Subject, Sequence[Any]], quantities: Mapping[str, str], note: str, logarithmic: bool
) -> Drawing:
    with style.styled():
        figure = style.new_figure(style.PAGE, 3.2)
        looks = marks(rows)
        for axes, (name, words) in zip(figure.subplots(1, 2), quantities.items(), strict=True):
            for subject, own in rows.items():
                factor = 1 if logarithmic else 100
                values = [factor * getattr(row, name) for row in own]
                _line(axes, values, looks[subject])
            axes.set(xlabel="place in the network", ylabel=words)
            if logarithmic:
                style.logarithmic(axes, "y", units.magnitude)
            else:
                axes.set_ylim(0, max(1, axes.get_ylim()[1]))  # percent
        figure.legend(handles=legend(looks), loc="outside lower center", ncols=3)
    points = [
        {"network": subject.title, "position": position, **dataclasses.asdict(row)}
        for subject, own in rows.items()
        for position, row in enumerate(own, start=1)
    ]
    return Drawing(figure, points, note)


def _line(axes: Axes, values: Sequence[float], mark: style.Mark) -> None:
    places = [position / max(len(values) - 1, 1) for position in range(len(values))]
    axes.plot(places, values, mark.marker, color=mark.colour, ls=mark.line, ms=3, lw=1)
