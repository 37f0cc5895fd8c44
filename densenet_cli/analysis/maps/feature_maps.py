"""Dead feature maps, and feature maps that repeat another one.

Measured are the outputs of each ReLU (or ReLU6), which in DenseNets and ResNets are the inputs of a
convolution or of the classifier: in a DenseNet all maps of the block so far; in a ResNet the sum of
shortcut and branch, or maps within a branch. A map is dead if it is zero for all images and positions.
It is redundant if its correlation (Pearson, over images and positions) with an earlier map of the same
ReLU is beyond ±0.9.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.module_tracker import ModuleTracker

from densenet_cli.analysis.forward import Batches, device_of, in_double, mode, no_images
from densenet_cli.options import UserError

REDUNDANT = 0.9  # |r| above which a map repeats another
CONSTANT = 1e-12  # a variance below this share of the squared largest value is a rounding error
RELUS = (torch.ops.aten.relu.default, torch.ops.aten.relu_.default)
CLAMPS = (torch.ops.aten.hardtanh.default, torch.ops.aten.hardtanh_.default)  # ReLU6: from 0 to 6


@dataclass(frozen=True)
class Activation:
    """The feature maps that one ReLU outputs.

    Attributes:
        name: of the innermost module that calls it; a bottleneck layer or residual block calls several.
        maps: the number of maps.
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
        batches: a few hundred images; with more images, fewer maps are dead by chance.

    Raises:
        ValueError: there are no images.
        UserError: the network has no ReLU on feature maps.
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
        raise no_images()
    if not found:
        raise UserError(f"{root} has no ReLU on feature maps, so none can be dead")
    return [_activation(name.removeprefix(f"{root}."), moments) for name, moments in found]


def correlations(maps: Tensor) -> Tensor:
    """Pearson's r of each pair of maps, (C, C), over images and positions of maps (N, C, H, W).

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
    """Adds the output of each ReLU in one forward pass to the sums of earlier passes."""

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
