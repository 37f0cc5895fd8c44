"""How large the gradients are that reach the first layer before training, against depth.

Before training all networks answer much alike: one image's loss has a gradient of about sqrt(1 - 1/C)
with respect to the logits of C classes. So the norms of different networks compare as they are. In wide
networks of layers with batch norm and ReLU, without shortcuts, each layer multiplies the norm by
sqrt(π / (π - 1)) = 1.211, towards the input (Yang et al. 2019, arXiv:1902.08129).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from densenet_cli.analysis.forward import Batches
from densenet_cli.analysis.gradients.effective_depth import branching_units, effective_depth
from densenet_cli.analysis.gradients.gradient_flow import LayerGradient, gradient_norms


@dataclass(frozen=True)
class Untrained:
    """The gradients of a network with one draw of its weights.

    Attributes:
        seed: of the weights.
        layers: its convolutions and linear layers, in the order in which they compute.
        units: its residual blocks or dense layers.
        effective_depth: through how many of these the gradient comes, see `effective_depth`; None if
            there are none.
    """

    seed: int
    layers: list[LayerGradient]
    units: int
    effective_depth: float | None

    @property
    def depth(self) -> int:
        """Layers with weights; those of shortcuts count too, if they have any."""
        return len(self.layers)

    @property
    def first(self) -> float:
        """Norm of the gradient with respect to the first layer's weights."""
        return self.layers[0].weight


def untrained(build: Callable[[], nn.Module], batches: Batches, seeds: int) -> Iterator[Untrained]:
    """The gradients of a network as `build` makes it, with as many draws of its weights as `seeds`."""
    for seed in range(seeds):
        torch.manual_seed(seed)
        network = build()
        units = branching_units(network)
        paths = effective_depth(network, units, batches) if units else None
        yield Untrained(seed, gradient_norms(network, batches), len(units), paths)


def by_depth(draws: Sequence[Untrained]) -> dict[int, list[Untrained]]:
    """The draws of each depth, the shallowest first."""
    depths = sorted({draw.depth for draw in draws})
    return {depth: [draw for draw in draws if draw.depth == depth] for depth in depths}


def growth(shallow: Sequence[Untrained], deep: Sequence[Untrained]) -> float:
    """By what one more layer multiplies the norm at the first layer: the geometric mean.

    Args:
        shallow: draws of a network.
        deep: draws of one that has more layers.
    """
    rise = _mean_logarithm(deep) - _mean_logarithm(shallow)
    return math.exp(rise / (deep[0].depth - shallow[0].depth))


def _mean_logarithm(draws: Sequence[Untrained]) -> float:
    return statistics.fmean(math.log(draw.first) for draw in draws)
