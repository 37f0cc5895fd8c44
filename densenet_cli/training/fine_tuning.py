"""Training that begins with trained weights: what is trained of a network, and how fast."""

from __future__ import annotations

from typing import Any

from torch import nn


def frozen_around(network: nn.Module, classifier: nn.Module) -> list[nn.Module]:
    """Freeze all of a network but its classifier.

    Returns:
        The modules that are to stay in evaluation mode, so that batch norms keep their statistics and
        nothing is dropped.
    """
    trained = {id(parameter) for parameter in classifier.parameters()}
    for parameter in network.parameters():
        parameter.requires_grad = id(parameter) in trained
    inside = set(classifier.modules())
    around = {module for module in network.modules() if inside & set(module.modules())} - inside
    return [module for module in network.modules() if module not in around | inside]


def parameter_groups(network: nn.Module, rate: float, layer_decay: float) -> list[dict[str, Any]]:
    """Parameters with their learning rates: `rate` in the last stage, and in each one before it that
    of the next one times `layer_decay` (Howard and Ruder 2018, arXiv:1801.06146, sec. 3.2).

    Stages are the network's children; those of a child `features` in its place. The last stage is the
    first group. Frozen parameters are left out.
    """
    stages = [
        stage
        for name, child in network.named_children()
        for stage in (child.children() if name == "features" else [child])
    ]
    groups: list[dict[str, Any]] = []
    seen: set[int] = set()
    for stage in [*reversed(stages), network]:  # at last, what is in no child
        parameters = [p for p in stage.parameters() if p.requires_grad and id(p) not in seen]
        seen |= {id(parameter) for parameter in parameters}
        if parameters:
            groups.append({"params": parameters, "lr": rate * layer_decay ** len(groups)})
    return groups
