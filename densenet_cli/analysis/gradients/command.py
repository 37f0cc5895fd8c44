"""`densenet-model gradients`: gradient norms by layer, before and after training."""

from __future__ import annotations

from typing import Any

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
    measured = analysis.each(_measure, also_untrained=True, several_labels=True)
    norms = {network: own for network, (own, _) in measured.items()}
    analysis.output.write("gradients", figure.draw(norms))
    documents = [{"network": one.title, **passed} for one, (_, passed) in measured.items()]
    lines = (f"{one.title}: {_in_words(passed)}" for one, (_, passed) in measured.items())
    analysis.output.finish(documents, *lines)


def _measure(trained: TrainedNetwork, batches: Batches) -> tuple[list[LayerGradient], dict[str, Any]]:
    return gradient_norms(trained.network, batches, trained.loss), _units_passed(trained, batches)


def _units_passed(trained: TrainedNetwork, batches: Batches) -> dict[str, Any]:
    """The number of residual blocks or dense layers, and how many the gradient passes on average."""
    units = branching_units(trained.network)
    if not units:
        return {"units": 0, "unit_kind": None, "units_passed_mean": None}
    kind = "dense layers" if isinstance(units[0], DenseLayer) else "residual blocks"
    depth = effective_depth(trained.network, units, batches, trained.loss)
    return {"units": len(units), "unit_kind": kind, "units_passed_mean": depth}


def _in_words(passed: dict[str, Any]) -> str:
    if not passed["units"]:
        return "has no residual blocks or dense layers that the gradient could bypass"
    number = f"{passed['units_passed_mean']:.1f} of {passed['units']} {passed['unit_kind']}"
    return f"on average the gradient passes through {number}"
