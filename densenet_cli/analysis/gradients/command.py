"""`densenet-model gradients`: gradient norms by layer, before and after training."""

from __future__ import annotations

from densenet_cli.analysis.forward import Batches
from densenet_cli.analysis.gradients import figure
from densenet_cli.analysis.gradients.effective_depth import branching_units, effective_depth
from densenet_cli.analysis.gradients.gradient_norms import LayerGradient, gradient_norms
from densenet_cli.analysis.lesions.units import DenseLayer
from densenet_cli.analysis.runs import Analysis
from densenet_cli.inference.trained_network import TrainedNetwork
from densenet_cli.options import OptionError


def gradients(analysis: Analysis) -> None:
    """Draw the gradient norms of all runs, untrained and trained; print their effective depths.

    Raises:
        UserError: there is one image only, or a run cannot be used.
    """
    if analysis.images < 2:
        raise OptionError("--images", analysis.images, "must be 2 or more, for batch norm", 256)
    measured = analysis.each(_measure, also_untrained=True)
    analysis.write("gradients", figure.draw({one: norms for one, (norms, _) in measured.items()}))
    for network, (_, depth) in measured.items():
        print(f"{network.title}: {depth}")


def _measure(trained: TrainedNetwork, batches: Batches) -> tuple[list[LayerGradient], str]:
    return gradient_norms(trained.network, batches), _effective_depth(trained, batches)


def _effective_depth(trained: TrainedNetwork, batches: Batches) -> str:
    """A sentence that says how many residual blocks or dense layers the gradient passes through."""
    units = branching_units(trained.network)
    if not units:
        return "has no residual blocks or dense layers that the gradient could bypass"
    depth = effective_depth(trained.network, units, batches)
    kind = "dense layers" if isinstance(units[0], DenseLayer) else "residual blocks"
    return f"on average the gradient passes through {depth:.1f} of {len(units)} {kind}"
