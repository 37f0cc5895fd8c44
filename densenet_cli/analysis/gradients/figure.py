"""The gradient norms of several networks along their layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from densenet_cli.analysis import layer_figure
from densenet_cli.analysis.gradients.gradient_norms import LayerGradient
from densenet_cli.analysis.network_label import NetworkLabel
from densenet_cli.figures.drawing import Drawing

QUANTITIES = {"weight": "gradient norm, weights", "output": "gradient norm, layer output"}
NOTE = (
    "Norm of the gradient of the loss with respect to each layer's weights, and with respect to the "
    "layer's output for one image, from the first layer (0) to the last (1)."
)


def draw(gradients: Mapping[NetworkLabel, Sequence[LayerGradient]]) -> Drawing:
    """The gradient norms of each network's layers, from input to output, on logarithmic axes."""
    return layer_figure.draw(gradients, QUANTITIES, NOTE, logarithmic=True)
