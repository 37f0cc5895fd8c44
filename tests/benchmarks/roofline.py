"""The least time of a training step of a DenseNet, from the measured rates of this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from contestants import ours
from networks import Network
from torch import Tensor, nn

from densenet_cli.models.cost import count_parameters, multiply_adds
from densenet_cli.models.densenet import BottleneckLayer, DenseBlock, PlainLayer, Transition

FAR_BEYOND_CACHE = 3 << 29  # bytes: three arrays of 512 MiB
REPEATS = 10


class Machine:
    """Rates that torch reaches here with all its threads: the best of ten tries."""

    def matrix_rate(self, bfloat16: bool) -> float:
        """Floating-point operations per second of a product of two 4096 x 4096 matrices."""
        size, dtype = 4096, torch.bfloat16 if bfloat16 else torch.float32
        left, right = (torch.randn(size, size).to(dtype) for _ in range(2))
        out = torch.empty(size, size, dtype=dtype)
        return 2 * size**3 / _least_seconds(lambda: torch.mm(left, right, out=out))

    def bandwidth(self, footprint: int = FAR_BEYOND_CACHE) -> float:
        """Bytes per second that a = b + 3c moves, with `footprint` bytes in its three arrays."""
        a, b, c = (torch.ones(footprint // 12) for _ in range(3))
        return a.nbytes * 3 / _least_seconds(lambda: torch.add(b, c, alpha=3, out=a))


def _least_seconds(work: Callable[[], Any]) -> float:
    work()
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def least_step(
    network: Network, bfloat16: bool, matrix_rate: float, bandwidth: float
) -> dict[str, float]:
    """The least seconds of a training step if arithmetic and memory traffic overlap completely.

    arithmetic: three times the multiply-adds of the forward pass (output, gradient of the input,
    gradient of the weight), two operations each. traffic: `elements_moved` of 2 bytes (bfloat16) or
    4, and 32 bytes per parameter: the weight is read forward and backward, the gradient written; SGD
    reads weight, gradient and momentum and writes two of them. seconds: the larger one.

    Args:
        network: a DenseNet of ours.
        bfloat16: whether maps are stored and multiplied in bfloat16.
        matrix_rate: operations per second.
        bandwidth: bytes per second.
    """
    module = network.make()
    operations = 6 * network.batch * multiply_adds(module, network.image_size)
    moved, _ = elements_moved(network)
    traffic = moved * _bytes(bfloat16) + 32 * count_parameters(module)
    parts = {"arithmetic": operations / matrix_rate, "traffic": traffic / bandwidth}
    return {**parts, "seconds": max(parts.values())}


def footprint(network: Network, bfloat16: bool) -> int:
    """Bytes of the largest block's maps and gradients, which most of the traffic reads and writes."""
    return elements_moved(network)[1] * _bytes(bfloat16)


def _bytes(bfloat16: bool) -> int:
    return 2 if bfloat16 else 4


def elements_moved(network: Network) -> tuple[int, int]:
    """Elements of feature maps that a training step moves, and of the largest block's buffers.

    Counted for an algorithm that keeps a block's maps in one buffer, works layer by layer, and knows
    batch statistics only when a map is complete. A pass over maps counts if they cannot be in the cache
    from the pass before. Other algorithms may need less.

    - the first columns of the buffer, which a layer reads: forward; backward, for ReLU's mask and the
      gradient of the weight; their gradient, read and written: 4
    - the maps that a layer writes: written; their gradient read: 2
    - the maps between the 1x1 and the 3x3 convolution: written, read; backward read for the gradient of
      the weight, their gradient written, and both read for the batch norm in between: 6. The same for
      those between the 7x7 convolution and its pooling.
    - the input of a transition or of the last batch norm: forward, backward, its gradient written: 3
    - the pooled output of a transition, and the stem's output for the first block: 2

    Returns:
        elements moved; elements of maps and their gradients in the largest block.
    """
    moved, buffers = 0, 0

    def count(name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal moved, buffers
        of_input, of_output = _passes(name, module)
        moved += of_input * inputs[0].numel() + of_output * output.numel()
        if isinstance(module, DenseBlock):
            buffers = max(buffers, 2 * output.numel())

    with torch.device("meta"):
        whole = ours(network)
        for name, module in whole.named_modules():
            module.register_forward_hook(partial(count, name))
        whole(torch.empty(network.batch, 3, network.image_size, network.image_size))
    return moved, buffers


def _passes(name: str, module: nn.Module) -> tuple[int, int]:
    """Passes over a module's input and over its output; see `elements_moved`."""
    if isinstance(module, (PlainLayer, BottleneckLayer)):
        return 4, 2
    if isinstance(module, Transition):
        return 3, 2
    of_input = {"norm0": 6, "norm2": 6, "norm5": 3, "denseblock1": 2}
    return of_input.get(name.rpartition(".")[2], 0), 0
