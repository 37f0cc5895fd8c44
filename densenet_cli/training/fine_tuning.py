"""Fine-tuning: which parameters are trained, and with which learning rate."""

from __future__ import annotations

from typing import Any

from torch import nn


def frozen_around(network: nn.Module, classifier: nn.Module) -> list[nn.Module]:
    """Freeze all parameters of a network but those of its classifier.

    Returns:
        The modules that must stay in evaluation mode, so that batch norm keeps its statistics and
        dropout does nothing.
    """
    trained = {id(parameter) for parameter in classifier.parameters()}
    for parameter in network.parameters():
        parameter.requires_grad = id(parameter) in trained
    inside = set(classifier.modules())
    around = {module for module in network.modules() if inside & set(module.modules())} - inside
    return [module for module in network.modules() if module not in around | inside]


def parameter_groups(network: nn.Module, lr: float, layer_decay: float) -> list[dict[str, Any]]:
    """Parameter groups with a learning rate for each stage of a network, the last stage first.

    The last stage has the rate `lr`; each stage before it has the rate of the stage behind it times
    `layer_decay` (Howard and Ruder 2018, arXiv:1801.06146, section 3.2). Stages are the network's
    children; a child `features` is replaced by its own children. Frozen parameters are left out.
    """
    stages = [
        stage
        for name, child in network.named_children()
        for stage in (child.children() if name == "features" else [child])
    ]
    groups: list[dict[str, Any]] = []
    seen: set[int] = set()
    for stage in [*reversed(stages), network]:  # the network itself: parameters outside all children
        parameters = [p for p in stage.parameters() if p.requires_grad and id(p) not in seen]
        seen |= {id(parameter) for parameter in parameters}
        if parameters:
            groups.append({"params": parameters, "lr": lr * layer_decay ** len(groups)})
    return groups
