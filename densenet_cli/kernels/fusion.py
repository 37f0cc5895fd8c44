"""Attaches the kernels to a DenseNet from outside, and detaches them again.

A fused network is of a class derived from its own, whose `forward` has the kernels compute where they
can and calls the original `forward` where they cannot. Nothing else of the network changes: not its
modules, parameters, state dict, hooks or attributes. torch's parametrizations and `fully_shard` change
classes in the same way. The other ways were tried on paper:

- An attribute `forward` of the object would refer to that object: a shallow copy, or a replica that
  nn.DataParallel makes, would compute with the weights of the original.
- Other modules inside the network would change its structure, and what its `features` return.
- No hook can keep a module from being computed.

What the kernels can compute is decided anew at each call, for a user may add a hook or replace a module
at any time.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from densenet_cli.kernels.checks import check_modules, is_computable, is_watched
from densenet_cli.kernels.libraries import CannotFuse, is_densenet, parts_of
from densenet_cli.kernels.selection import engine_or_reason, say_once
from densenet_cli.options import OptionError, UserError, choice

IMPLEMENTATIONS = ("auto", "fused", "reference")
Network = TypeVar("Network", bound=nn.Module)


def fuse(network: Network, device: str | None = None) -> Network:
    """Let the kernels compute a DenseNet of densenet_cli, torchvision, timm or MONAI (2-D).

    Outputs, gradients and running statistics stay what they were but for rounding; dropout draws other
    masks of the same distribution. The modules still compute where the kernels cannot: where somebody
    watches them by hooks, in torch.compile and torch.export, and if they were changed meanwhile.

    Args:
        network: is changed in place.
        device: where it will compute, "cpu" or "cuda"; by default where it is. The CPU's kernels are
            compiled now, the GPU's with the first batch.

    Returns:
        The network.

    Raises:
        UserError: the kernels cannot compute the network, or not on that device.
    """
    if is_fused(network):
        return network
    try:
        parts = parts_of(network)
        weight = parts.trunk.last.weight
        check_modules(parts, (weight.dtype, weight.device))
        if weight.dtype not in (torch.float32, torch.float64):
            raise CannotFuse(f"its parameters are of {weight.dtype} and not of torch.float32")
        if "forward" in vars(network):
            raise CannotFuse("its forward method was replaced")
        found = engine_or_reason(device or weight.device.type)
        if isinstance(found, str):
            raise CannotFuse(found)
    except CannotFuse as reason:
        raise UserError(f"this {type(network).__name__} cannot be fused: {reason}") from reason
    kind: Any = type(network)
    network.__class__ = _fused(kind)
    return network


def unfuse(network: Network) -> Network:
    """Undo `fuse`: the network's modules compute it again. Returns the network."""
    if is_fused(network):
        network.__class__ = vars(type(network))["unfused"]
    return network


def is_fused(network: nn.Module) -> bool:
    """Whether the kernels are attached to a network."""
    return "unfused" in vars(type(network))


def attach(network: nn.Module, implementation: str, device: str) -> None:
    """Fuse a network if the option `implementation` asks for that.

    Args:
        network: any network.
        implementation: "fused": fuse it; "reference": do not; "auto": fuse it where it is known to be
            faster and where that can be done. It is faster on CPUs. On GPUs it is faster only where
            steps are replayed as CUDA graphs, and half a minute is needed for compiling.
        device: where it will compute: cpu, cuda or mps.

    Raises:
        OptionError: fused, but the kernels cannot compute this network, or not on this device.
    """
    choice("implementation", implementation, IMPLEMENTATIONS)
    if implementation == "reference" or (implementation == "auto" and device != "cpu"):
        return
    try:
        fuse(network, device)
    except UserError as error:
        if implementation == "fused":
            raise OptionError("implementation", "fused", str(error), "auto") from error
        if is_densenet(network):
            say_once(str(error))


def implementation(network: nn.Module) -> str | None:
    """ "fused" or "reference", the modules; None for a network that the kernels cannot compute."""
    try:
        parts_of(network)
    except CannotFuse:
        return None
    return "fused" if is_fused(network) else "reference"


@functools.cache
def _fused(kind: Any) -> Any:
    """The class of fused networks of a class."""
    signature = inspect.signature(kind.forward)

    @functools.wraps(kind.forward)
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if not torch.compiler.is_compiling():
            _, images = signature.bind(self, *args, **kwargs).args
            logits = _logits(self, images)
            if logits is not None:
                return logits
        return kind.forward(self, *args, **kwargs)

    def reduce(self: nn.Module, protocol: int) -> Any:
        return _new, (kind,), *kind.__reduce_ex__(self, max(protocol, 2))[2:]

    own = {
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__doc__": kind.__doc__,
        "__reduce_ex__": reduce,
        "forward": forward,
        "unfused": kind,
    }
    return type(kind.__name__, (kind,), own)


def _new(kind: Any) -> nn.Module:
    """A fused network without its attributes, as copies and pickles begin."""
    fused = _fused(kind)
    return fused.__new__(fused)


def _logits(network: nn.Module, images: Any) -> Tensor | None:
    """What the kernels make of images; None where the modules must compute."""
    if is_watched(images):
        return None
    try:
        parts = parts_of(network)
    except CannotFuse:
        return None
    if not is_computable(parts, images):
        return None
    engine = engine_or_reason(images.device.type)
    if isinstance(engine, str):
        say_once(engine)
        return None
    maps = images
    for module in parts.stem:
        maps = module(maps)
    if not parts.trunk.takes(maps):  # the modules say what is wrong
        return None
    means = parts.trunk(maps, engine, parts.modules[0].training)
    for module in parts.head:
        means = module(means)
    return means
