"""Which code computes a DenseNet: the modules themselves, or the fused trunk with an engine."""

from __future__ import annotations

import functools
import logging

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _len_torch_dispatch_stack

from densenet_cli.kernels.compiled import Unavailable, load
from densenet_cli.kernels.engine import Engine
from densenet_cli.kernels.maps import REAL
from densenet_cli.kernels.trunk import Trunk
from densenet_cli.options import OptionError

log = logging.getLogger(__name__)

IMPLEMENTATIONS = ("auto", "reference", "fused")


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
        from densenet_cli.kernels.cpu_engine import CpuEngine

        return CpuEngine(load())
    if device == "cuda":
        try:
            from densenet_cli.kernels.triton_engine import TritonEngine
        except ImportError as error:
            raise Unavailable(f"Triton cannot be imported: {error}") from error
        return TritonEngine()
    raise Unavailable(f"there is no fused DenseNet for the device {device}")


def obstacle(features: nn.Module, trunk: Trunk, images: Tensor) -> str | None:
    """Why a trunk must be computed by its modules this time; None if it need not.

    The fused trunk calls no module. So it must give way where someone looks at them, by a hook or a
    mode that counts or records operations, or has put another kind of module in a place.

    Args:
        features: all modules the fused trunk stands for.
        trunk: how it sees them.
        images: the network's input.
    """
    if type(images) is not Tensor or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return "operations are being traced"
    if _len_torch_dispatch_stack() or torch._C._functorch.peek_interpreter_stack() is not None:
        return "operations are being recorded or transformed"
    dtype = _computed_with(images)
    if dtype not in REAL:
        return f"maps of {dtype} are not known"
    for module in features.modules():
        if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks:
            return "modules have hooks"
        if module.training != features.training:
            return "some modules are training and some are not"
    return _unusual(trunk, REAL[dtype])


def _computed_with(images: Tensor) -> torch.dtype:
    device = images.device.type
    if torch.is_autocast_enabled(device) and images.dtype != torch.float64:
        return torch.get_autocast_dtype(device)
    return images.dtype


def _unusual(trunk: Trunk, real: torch.dtype) -> str | None:
    """A module that is not what the kernels take it for."""
    for step in trunk.convolutions():
        if type(step.conv) is not nn.Conv2d or step.conv.weight.dtype != real:
            return f"{step.conv} is no ordinary convolution"
    for norm in trunk.norms():
        if type(norm) is not nn.BatchNorm2d or not norm.affine or norm.weight.dtype != real:
            return f"{norm} is no ordinary batch norm"
        if norm.momentum is None or norm.running_mean is None:
            return f"{norm} has no running mean of its own pace"
    return None


@functools.cache
def _say_once(reason: str) -> None:
    log.warning("DenseNets are computed by their modules, which is slower: %s", reason)
