"""The cost of a network: its parameters, and the multiply-adds of one image."""

from __future__ import annotations

import copy
from itertools import chain

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from densenet_cli.models.stochastic_depth import StochasticBranch
from densenet_cli.options import whole_number


def count_parameters(network: nn.Module) -> int:
    """The number of parameters, with frozen ones and without buffers; a shared one counts once."""
    return sum(parameter.numel() for parameter in network.parameters())


def multiply_adds(network: nn.Module, image_size: int | tuple[int, int], channels: int = 3) -> int:
    """Multiply-adds of one forward pass over one image, in evaluation mode.

    Measured on a copy of `network` on the meta device; `network` is not changed.

    Args:
        network: maps images (1, channels, H, W) to logits.
        image_size: (height, width) of the image in pixels, or one number for a square.
        channels: 3 for an RGB image, 1 for grey levels.

    Returns:
        Multiply-adds of convolutions and matrix products (linear layers, attention), without biases,
        normalisation, activations and pooling. The DenseNet paper calls this number FLOPs (fig. 3);
        PyTorch's counter returns twice as many.

    Raises:
        OptionError: image_size is below 1.
    """
    return _counter(network, image_size, channels).get_total_flops() // 2


def left_out_multiply_adds(
    network: nn.Module, image_size: int | tuple[int, int], channels: int = 3
) -> int:
    """Multiply-adds of `multiply_adds` that a forward pass in training leaves out, on average.

    They are those of the branches that stochastic depth drops, each times its chance; in a network
    without stochastic depth there are none.

    Args:
        network, image_size, channels: as those of `multiply_adds`.
    """
    blocks = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, StochasticBranch) and module.survival < 1
    }
    if not blocks:
        return 0
    counts = _counter(network, image_size, channels).get_flop_counts()
    root = type(network).__name__
    left_out = (
        (1 - block.survival) * sum(counts.get(f"{root}.{name}.{part}", {}).values())
        for name, block in blocks.items()
        for part in block.BRANCH
    )
    return round(sum(left_out) / 2)


def _counter(network: nn.Module, image_size: int | tuple[int, int], channels: int) -> FlopCounterMode:
    """PyTorch's counter after one evaluation of one image, on the meta device."""
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    whole_number("image_size", height, example=32)
    whole_number("image_size", width, example=32)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        without_memory(network).eval()(torch.empty(1, channels, height, width, device="meta"))
    return counter


def without_memory(network: nn.Module) -> nn.Module:
    """A copy of `network` on the meta device; its weights are not copied on the way."""
    replaced: dict[int, Tensor] = {}
    for tensor in chain(network.parameters(), network.buffers()):
        meta = tensor.detach().to("meta")
        replaced[id(tensor)] = nn.Parameter(meta) if isinstance(tensor, nn.Parameter) else meta
    return copy.deepcopy(network, replaced)
