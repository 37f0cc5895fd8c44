"""The layers of a network: shapes, parameters, multiply-adds, and the time and memory they take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass
class Layer:
    """A module of a network, with all that is in it, and what a forward pass through it takes.

    Attributes:
        name: as in the state dict; empty for the network itself.
        kind: the module's class.
        shape: of its output for one image, as (C, H, W).
        parameters: a number that two layers share counts in both.
        multiply_adds: of one image, see `models.cost.multiply_adds`.
        seconds: for the batch that was given, the least of some passes.
        bytes: of the outputs of all modules in it that have none in them, for one image.
    """

    name: str
    kind: str
    parameters: int
    shape: tuple[int, ...] = ()
    multiply_adds: int = 0
    seconds: float = float("inf")
    bytes: int = 0

    @property
    def depth(self) -> int:
        """0 for the network, 1 for its children."""
        return self.name.count(".") + 1 if self.name else 0


def layers(network: nn.Module, images: Tensor, passes: int = 3) -> list[Layer]:
    """Measure the modules of a network that a forward pass calls, each before those in it.

    Networks that are computed in one piece (DenseNets) are computed by their modules here.

    Args:
        network: maps images to logits; left in evaluation mode.
        images: a batch (N, 3, H, W).
        passes: how often to measure times.
    """
    network.eval()
    found = {
        name: Layer(name, type(module).__name__, sum(p.numel() for p in module.parameters()))
        for name, module in network.named_modules()
    }
    with torch.no_grad(), _watched(network, found):
        for _ in range(passes):
            network(images)
    called = {name: layer for name, layer in found.items() if layer.seconds < float("inf")}
    _count_multiply_adds(network, images[:1], called)
    for name, layer in called.items():
        is_leaf = not any(other.startswith(f"{name}.") for other in called) and name
        for outer in called.values() if is_leaf else ():
            if outer.name in ("", name) or name.startswith(f"{outer.name}."):
                outer.bytes += _bytes(layer.shape, images)
    return list(called.values())


def _bytes(shape: tuple[int, ...], images: Tensor) -> int:
    return torch.Size(shape).numel() * images.element_size()


@contextmanager
def _watched(network: nn.Module, found: dict[str, Layer]) -> Iterator[None]:
    """Note shape and time of each call of a module within."""
    began: dict[str, float] = {}
    hooks = []

    def watch(name: str, module: nn.Module) -> None:
        def before(*_: Any) -> None:
            began[name] = time.perf_counter()

        def after(module: nn.Module, arguments: Any, output: Any) -> None:
            seconds = time.perf_counter() - began[name]
            layer = found[name]
            layer.seconds = min(layer.seconds, seconds)
            if isinstance(output, Tensor):
                layer.shape = tuple(output.shape[1:])

        hooks.extend([module.register_forward_pre_hook(before), module.register_forward_hook(after)])

    for name, module in network.named_modules():
        watch(name, module)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _count_multiply_adds(network: nn.Module, image: Tensor, called: dict[str, Layer]) -> None:
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(image)
    root = type(network).__name__
    for name, counts in counter.get_flop_counts().items():
        inner = name.removeprefix(root).removeprefix(".")
        if name.startswith(root) and inner in called:
            called[inner].multiply_adds = sum(counts.values()) // 2
