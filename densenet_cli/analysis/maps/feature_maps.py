"""Maps that say nothing, and maps that say what another one says already.

Looked at is what each ReLU (or ReLU6) gives, which in DenseNets and ResNets is what a convolution or
the classifier reads: in a DenseNet all maps of the block so far, in a ResNet the sum of shortcut and
branch, or what lies within a branch. A map is dead if it is zero for all images and positions. It is
redundant if its correlation (Pearson, over images and positions) with an earlier map of the same ReLU
is beyond ±0.9.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.module_tracker import ModuleTracker

from densenet_cli.analysis.forward import Batches, device_of, in_double, mode
from densenet_cli.options import UserError

REDUNDANT = 0.9  # |r| above which a map repeats another
CONSTANT = 1e-12  # a variance below this part of the largest value squared is rounding
RELUS = (torch.ops.aten.relu.default, torch.ops.aten.relu_.default)
CLAMPS = (torch.ops.aten.hardtanh.default, torch.ops.aten.hardtanh_.default)  # ReLU6 from 0 on


@dataclass(frozen=True)
class Activation:
    """The maps that one ReLU gives.

    Attributes:
        name: the innermost module at work; a bottleneck layer or residual block has two ReLUs.
        maps: how many maps there are.
        dead: the share of them, 0..1, that is zero everywhere.
        redundant: the share of them, 0..1, that repeats an earlier one; a dead map repeats none.
    """

    name: str
    maps: int
    dead: float
    redundant: float


def activations(network: nn.Module, batches: Batches) -> list[Activation]:
    """All ReLUs of a network in the order in which they compute, in evaluation mode.

    Args:
        network: images -> logits.
        batches: a few hundred images; the more, the fewer maps are dead by chance.

    Raises:
        ValueError: there are no images.
        UserError: the network has no ReLU that gives maps.
    """
    number = 0
    found: list[tuple[str, _Moments]] = []
    device, root = device_of(network), type(network).__name__
    with mode(network, training=False), torch.no_grad(), ModuleTracker() as tracker:
        for images, _ in batches:
            number += len(images)
            with _WatchReLU(tracker, found):
                network(images.to(device))
    if not number:
        raise ValueError("there are no images: batches must be a list or a loader with some")
    if not found:
        raise UserError(f"{root} has no ReLU that gives maps, of which some could be dead")
    return [_activation(name.removeprefix(f"{root}."), moments) for name, moments in found]


def correlations(maps: Tensor) -> Tensor:
    """Pearson's r of each two maps, (C, C), over images and positions of maps (N, C, H, W).

    A constant map has r = 0 with all maps.
    """
    return _Moments(maps).correlations()


class _Moments:
    """Sums over images and positions of maps (N, C, H, W) and of their products."""

    def __init__(self, maps: Tensor) -> None:
        values = in_double(maps.detach()).transpose(0, 1).flatten(1)  # (C, N·H·W)
        self.number = values.shape[1]
        self.sums, self.products = values.sum(1), values @ values.T
        self.largest = values.abs().amax(1)

    def add(self, other: _Moments) -> None:
        self.number += other.number
        self.sums += other.sums
        self.products += other.products
        self.largest = torch.maximum(self.largest, other.largest)

    def correlations(self) -> Tensor:
        means = self.sums / self.number
        covariances = self.products / self.number - means.outer(means)
        variances = covariances.diagonal()
        variances = variances.where(variances > CONSTANT * self.largest**2, torch.inf)
        return covariances / variances.outer(variances).sqrt()


class _WatchReLU(TorchDispatchMode):
    """Adds what each ReLU gives in one forward pass to what earlier passes found there."""

    def __init__(self, tracker: ModuleTracker, found: list[tuple[str, _Moments]]) -> None:
        super().__init__()
        self.tracker, self.found, self.position = tracker, found, 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = function(*args, **(kwargs or {}))
        if _is_relu(function, args) and output.dim() == 4:
            moments = _Moments(output)
            if self.position == len(self.found):
                self.found.append((max(self.tracker.parents - {"Global"}, key=len), moments))
            else:
                self.found[self.position][1].add(moments)
            self.position += 1
        return output


def _is_relu(function: Any, args: tuple[Any, ...]) -> bool:
    return function in RELUS or (function in CLAMPS and len(args) > 1 and args[1] == 0)


def _activation(name: str, moments: _Moments) -> Activation:
    repeats = moments.correlations().abs().tril(diagonal=-1) > REDUNDANT
    return Activation(
        name,
        maps=len(moments.largest),
        dead=float((moments.largest == 0).double().mean()),
        redundant=float(repeats.any(1).double().mean()),
    )
