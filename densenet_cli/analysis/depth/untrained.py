"""Gradients before training, and how the norm at the first layer depends on depth.

Before training all networks predict nearly equal probabilities, and the loss of one image has a
gradient of about sqrt(1 - 1/C) with respect to the logits of C classes. So the norms of different
networks can be compared directly. In wide networks of layers with batch norm and ReLU, without
shortcuts, each layer multiplies the norm by sqrt(π / (π - 1)) = 1.211 on the way back (Yang et al.
2019, arXiv:1902.08129).
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
from densenet_cli.analysis.gradients.gradient_norms import LayerGradient, gradient_norms


@dataclass(frozen=True)
class Untrained:
    """The gradients of a network with the initial weights of one seed.

    Attributes:
        seed: of the weights.
        layers: its convolutions and linear layers, in the order in which they compute.
        units: the number of its residual blocks or dense layers.
        effective_depth: how many of these units the gradient passes through on average, see
            `effective_depth`; None if there are no units.
    """

    seed: int
    layers: list[LayerGradient]
    units: int
    effective_depth: float | None

    @property
    def depth(self) -> int:
        """The number of layers with weights, including those of shortcuts."""
        return len(self.layers)

    @property
    def first(self) -> float:
        """Norm of the gradient with respect to the first layer's weights."""
        return self.layers[0].weight


def untrained(build: Callable[[], nn.Module], batches: Batches, seeds: int) -> Iterator[Untrained]:
    """The gradients of the network that `build` creates, for the seeds 0, 1, ..., `seeds` - 1."""
    for seed in range(seeds):
        torch.manual_seed(seed)
        network = build()
        units = branching_units(network)
        passed = effective_depth(network, units, batches) if units else None
        yield Untrained(seed, gradient_norms(network, batches), len(units), passed)


def by_depth(draws: Sequence[Untrained]) -> dict[int, list[Untrained]]:
    """The draws of each depth, the shallowest first."""
    depths = sorted({draw.depth for draw in draws})
    return {depth: [draw for draw in draws if draw.depth == depth] for depth in depths}


def growth(shallow: Sequence[Untrained], deep: Sequence[Untrained]) -> float:
    """The factor by which one more layer multiplies the norm at the first layer: the geometric mean.

    Args:
        shallow: draws of a network.
        deep: draws of a network with more layers.
    """
    rise = _mean_logarithm(deep) - _mean_logarithm(shallow)
    return math.exp(rise / (deep[0].depth - shallow[0].depth))


def _mean_logarithm(draws: Sequence[Untrained]) -> float:
    return statistics.fmean(math.log(draw.first) for draw in draws)
