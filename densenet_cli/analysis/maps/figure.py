"""The dead and the redundant feature maps of several networks along their layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from densenet_cli.analysis import layer_figure
from densenet_cli.analysis.maps.feature_maps import Activation
from densenet_cli.analysis.network_label import NetworkLabel
from densenet_cli.figures.drawing import Drawing

QUANTITIES = {"dead": "dead maps (%)", "redundant": "redundant maps (%)"}
NOTE = (
    "Share of feature maps that are zero on all images, and of those whose correlation with an earlier "
    "map of the same layer is beyond ±0.9, from the first ReLU (0) to the last (1)."
)


def draw(activations: Mapping[NetworkLabel, Sequence[Activation]]) -> Drawing:
    """The percentage of dead and of redundant maps after each ReLU, from input to output."""
    return layer_figure.draw(activations, QUANTITIES, NOTE, logarithmic=False)
