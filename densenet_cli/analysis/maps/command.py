"""`densenet-model maps`: dead and redundant feature maps by layer."""

from __future__ import annotations

from densenet_cli.analysis.maps import figure
from densenet_cli.analysis.maps.feature_maps import activations
from densenet_cli.analysis.runs import Analysis


def maps(analysis: Analysis) -> None:
    """Draw the shares of dead and of redundant feature maps of all runs.

    Raises:
        UserError: a run cannot be used, or its network has no ReLU.
    """
    found = analysis.each(
        lambda trained, images: activations(trained.network, images), several_labels=True
    )
    analysis.output.write("maps", figure.draw(found))
    analysis.output.finish([{"network": network.title} for network in found])
