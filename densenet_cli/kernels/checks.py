"""Whether the kernels compute what a DenseNet's modules, as they are now, would compute."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules.module import _has_any_global_hook
from torch.utils._python_dispatch import _len_torch_dispatch_stack

from densenet_cli.kernels.libraries import CannotFuse, Parts
from densenet_cli.kernels.maps import REAL
from densenet_cli.kernels.trunk import Trunk
from densenet_cli.kernels.unchanged import HOOKS

REPLACEABLE = {"forward", "_conv_forward"}  # methods that some tools replace in a single module
Form = tuple[torch.dtype, torch.device]


def is_watched(images: Tensor) -> bool:
    """Whether the modules must be called because operations are traced, recorded or transformed.

    Args:
        images: the network's input.
    """
    return bool(
        type(images) is not Tensor
        or images.device.type == "meta"
        or torch.jit.is_tracing()
        or _len_torch_dispatch_stack()
        or torch._C._functorch.peek_interpreter_stack() is not None
        or forward_ad._current_level >= 0
        or _has_any_global_hook()
    )


def is_computable(parts: Parts, images: Tensor) -> bool:
    """Whether the kernels compute what the modules would compute of these images.

    The kernels call no module of the trunk. So the modules must compute if one has a hook, or if some
    are training and some are not.
    """
    training = parts.modules[0].training
    for module in parts.modules:
        own = module.__dict__
        if own["training"] != training or any(own[name] for name in HOOKS):
            return False
    maps = computed_with(images)
    if maps not in REAL:
        return False
    try:
        check_modules(parts, (REAL[maps], images.device))
    except CannotFuse:
        return False
    return True


def is_whole_stem(parts: Parts, images: Tensor) -> bool:
    """Whether the stem is the one for ImageNet, which kernels may compute from the images on.

    Args:
        parts: those for which `is_computable` is true.
        images: the network's input.
    """
    trunk, conv = parts.trunk, parts.stem[0]
    if trunk.first is None or len(parts.stem) > 1 or type(conv) is not nn.Conv2d or images.ndim != 4:
        return False
    form = REAL[computed_with(images)], images.device
    return (
        _is_ordinary_convolution(conv, images.shape[1], 7, form, stride=2)
        and images.dtype == form[0]
        and len(conv.weight) == trunk.channels
        and (min(images.shape[2:]) + 3) // 4 >> len(trunk.transitions) > 0
    )


def computed_with(images: Tensor) -> torch.dtype:
    """The number format of the feature maps that a convolution makes of images."""
    device = images.device.type
    if torch.is_autocast_enabled(device) and images.dtype != torch.float64:
        return torch.get_autocast_dtype(device)
    return images.dtype


def check_modules(parts: Parts, form: Form) -> None:
    """Raise CannotFuse if a module computes something else than the kernels would for it.

    Args:
        form: the number format of parameters and running statistics, and their device.
    """
    for module in parts.modules:
        kind = type(module)
        if parts.made_by.forwards.get(kind) is not kind.forward:
            raise CannotFuse(f"the kernels know no {kind.__name__}")
        if not module.__dict__.keys().isdisjoint(REPLACEABLE):
            raise CannotFuse(f"the forward method of a {kind.__name__} was replaced")
    _check_trunk(parts.trunk, form)


def _check_trunk(trunk: Trunk, form: Form) -> None:
    norms, convolutions = _expected(trunk)
    if len({id(norm) for norm, _ in norms}) < len(norms):
        raise CannotFuse("a batch norm is used twice")
    for norm, inputs in norms:
        if not _is_ordinary_norm(norm, inputs, form):
            raise CannotFuse(f"{norm} is no ordinary batch norm of {inputs} feature maps in {form[0]}")
    for conv, inputs, size in convolutions:
        if not _is_ordinary_convolution(conv, inputs, size, form):
            what = f"{size} x {size} convolution of {inputs} feature maps in {form[0]}"
            raise CannotFuse(f"{conv} is no ordinary {what}")


def _expected(
    trunk: Trunk,
) -> tuple[list[tuple[nn.BatchNorm2d, int]], list[tuple[nn.Conv2d, int, int]]]:
    """Batch norms with the maps that each reads; convolutions with those and the kernel's height."""
    channels = trunk.channels
    norms = [] if trunk.first is None else [(trunk.first, channels)]
    convolutions = []
    for index, block in enumerate(trunk.blocks):
        for layer in block:
            inputs = channels
            for step in layer:
                norms.append((step.norm, inputs))
                convolutions.append((step.conv, inputs, 3 if step is layer[-1] else 1))
                inputs = len(step.conv.weight)
            channels += inputs
        for step in trunk.transitions[index : index + 1]:
            norms.append((step.norm, channels))
            convolutions.append((step.conv, channels, 1))
            channels = len(step.conv.weight)
    return [*norms, (trunk.last, channels)], convolutions


def _is_ordinary_norm(norm: nn.BatchNorm2d, channels: int, form: Form) -> bool:
    own = norm._parameters | norm._buffers
    numbers = [own.pop(name, None) for name in ("weight", "bias", "running_mean", "running_var")]
    return (
        all(_is_ordinary(tensor, (channels,), form) for tensor in numbers)
        and all(tensor is not None and tensor.stride() == (1,) for tensor in numbers)
        and own.keys() == {"num_batches_tracked"}
        and own["num_batches_tracked"] is not None
        and norm.track_running_stats
        and norm.momentum is not None
    )


def _is_ordinary_convolution(
    conv: nn.Conv2d, inputs: int, size: int, form: Form, stride: int = 1
) -> bool:
    weight, half = conv.weight, size // 2
    return (
        _is_ordinary(weight, (len(weight), inputs, size, size), form)
        and conv.bias is None
        and conv.padding == (half, half)
        and conv.padding_mode == "zeros"
        and conv.stride == (stride, stride)
        and conv.dilation == (1, 1)
        and conv.groups == 1
    )


def _is_ordinary(tensor: Any, shape: tuple[int, ...], form: Form) -> bool:
    return (
        type(tensor) in (Tensor, nn.Parameter)
        and tensor.shape == shape
        and (tensor.dtype, tensor.device) == form
        and tensor.layout == torch.strided
    )
