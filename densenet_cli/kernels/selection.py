"""Which code computes a DenseNet: the modules themselves, or the fused trunk with an engine."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook
from torch.utils._python_dispatch import _len_torch_dispatch_stack

from densenet_cli.kernels.cpu.compilation import Unavailable, load
from densenet_cli.kernels.engine import Engine
from densenet_cli.kernels.maps import REAL
from densenet_cli.kernels.trunk import Trunk
from densenet_cli.options import OptionError

log = logging.getLogger(__name__)

IMPLEMENTATIONS = ("auto", "reference", "fused")
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
Form = tuple[torch.dtype, torch.device]
REPLACEABLE = {"forward", "_conv_forward"}  # methods that some give to a single module


def choose(implementation: str, device: str) -> str:
    """The implementation that `implementation` means on a kind of device: reference or fused.

    auto is fused on CPUs for which the library can be compiled; if it cannot, the log says once why
    not. On GPUs fused must be asked for: it is faster only where steps are replayed as CUDA graphs, and
    compiles for half a minute.

    Raises:
        OptionError: fused was asked for and cannot be had.
    """
    if implementation == "reference" or (implementation == "auto" and device != "cpu"):
        return "reference"
    try:
        engine(device)
    except Unavailable as error:
        if implementation == "fused":
            raise OptionError("implementation", "fused", f"cannot be had: {error}", "auto") from error
        _say_once(str(error))
        return "reference"
    return "fused"


def engine(device: str) -> Engine:
    """What computes on a kind of device. Raises Unavailable."""
    found = engine_or_reason(device)
    if isinstance(found, str):
        raise Unavailable(found)
    return found


@functools.cache
def engine_or_reason(device: str) -> Engine | str:
    """What computes on a kind of device, or why nothing can: a compiler that failed fails again."""
    try:
        return _start(device)
    except Unavailable as error:
        return str(error)


def _start(device: str) -> Engine:
    if device == "cpu":
        from densenet_cli.kernels.cpu.engine import CpuEngine

        return CpuEngine(load())
    if device == "cuda":
        try:
            from densenet_cli.kernels.triton.engine import TritonEngine
        except ImportError as error:
            raise Unavailable(f"Triton cannot be imported: {error}") from error
        return TritonEngine()
    raise Unavailable(f"there is no fused DenseNet for the device {device}")


def obstacle(
    features: nn.Module, known: Mapping[type[nn.Module], Callable[..., Any]], images: Tensor
) -> str | None:
    """Why modules must compute this time, whatever the network is; None if nothing is in the way.

    The fused trunk calls no module. So it must give way where someone looks at them, by a hook or a
    mode that counts or records operations, or has made one of them compute something else.

    Args:
        features: all modules that the fused trunk stands for.
        known: the classes of modules that it can stand for, with the `forward` that it computes.
        images: the network's input.
    """
    if type(images) is not Tensor or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return "operations are being traced"
    if _len_torch_dispatch_stack() or torch._C._functorch.peek_interpreter_stack() is not None:
        return "operations are being recorded or transformed"
    if computed_with(images) not in REAL:
        return f"maps of {computed_with(images)} are not known"
    if _has_any_global_hook():
        return "all modules have hooks"
    for module in features.modules():
        kind = type(module)
        if known.get(kind) is not kind.forward or not module.__dict__.keys().isdisjoint(REPLACEABLE):
            return f"{kind.__name__} is no module that the kernels know"
        if any(module.__dict__[name] for name in HOOKS):
            return "modules have hooks"
        if module.training != features.training:
            return "some modules are training and some are not"
    return None


def computed_with(images: Tensor) -> torch.dtype:
    """The number format of the maps that a convolution makes of images."""
    device = images.device.type
    if torch.is_autocast_enabled(device) and images.dtype != torch.float64:
        return torch.get_autocast_dtype(device)
    return images.dtype


def unusual(trunk: Trunk, channels: int, images: Tensor) -> str | None:
    """What a trunk's modules compute that the kernels do not; None if there is nothing.

    Args:
        trunk: of modules among which `obstacle` has found none.
        channels: maps that the trunk is given.
        images: the network's input.
    """
    kinds = nn.BatchNorm2d, nn.Conv2d, nn.Dropout
    for step in trunk.convolutions():
        if (type(step.norm), type(step.conv), type(step.dropout)) != kinds or step.dropout.p >= 1:
            return f"{step} is no batch norm, convolution and dropout"
    norms, convolutions = _expected(trunk, channels)
    if len({id(norm) for norm, _ in norms}) < len(norms):
        return "a batch norm is used twice"
    form = REAL[computed_with(images)], images.device
    for norm, inputs in norms:
        if not _is_ordinary_norm(norm, inputs, form):
            return f"{norm} is no ordinary batch norm of {inputs} maps"
    for conv, inputs, size in convolutions:
        if not _is_ordinary_convolution(conv, inputs, size, form):
            return f"{conv} is no ordinary {size}x{size} convolution of {inputs} maps"
    return None


def _expected(
    trunk: Trunk, channels: int
) -> tuple[list[tuple[nn.BatchNorm2d, int]], list[tuple[nn.Conv2d, int, int]]]:
    """Batch norms with the maps that each reads; convolutions with those and the kernel's height."""
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


def _is_ordinary_convolution(conv: nn.Conv2d, inputs: int, size: int, form: Form) -> bool:
    weight, half = conv.weight, size // 2
    return (
        _is_ordinary(weight, (len(weight), inputs, size, size), form)
        and conv.bias is None
        and conv.padding == (half, half)
        and conv.padding_mode == "zeros"
        and conv.stride == conv.dilation == (1, 1)
        and conv.groups == 1
    )


def _is_ordinary(tensor: Any, shape: tuple[int, ...], form: Form) -> bool:
    return (
        type(tensor) in (Tensor, nn.Parameter)
        and tensor.shape == shape
        and (tensor.dtype, tensor.device) == form
        and tensor.layout == torch.strided
    )


@functools.cache
def _say_once(reason: str) -> None:
    log.warning("DenseNets are computed by their modules, which is slower: %s", reason)
