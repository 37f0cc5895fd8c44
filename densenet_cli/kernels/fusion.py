"""Attaches the kernels to a DenseNet from outside, and detaches them again.

`fuse` replaces the network's class by one derived from it, as torch's parametrizations and
`fully_shard` do. Its `forward` lets the kernels compute where they can, and calls the original
`forward` where they cannot. Nothing else changes: modules, parameters, state dict, hooks and attributes
stay. Other ways have drawbacks:

- An attribute `forward` of the network would be bound to this one object. A shallow copy, or a replica
  that nn.DataParallel makes, would compute with the weights of the original.
- Replacing modules would change the network's structure, and what its `features` return.
- A hook cannot prevent that modules compute.

Each call checks whether the kernels can compute the network, because a user may add a hook or replace
a module at any time. The outcome is kept with the network, as long as nothing about it has changed.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn

from densenet_cli.kernels.checks import (
    check_modules,
    computed_with,
    is_computable,
    is_watched,
    is_whole_stem,
)
from densenet_cli.kernels.libraries import CannotFuse, Parts, is_densenet, parts_of
from densenet_cli.kernels.maps import REAL
from densenet_cli.kernels.selection import engine_or_reason, say_once
from densenet_cli.kernels.unchanged import Snapshot
from densenet_cli.options import OptionError, UserError, choice

IMPLEMENTATIONS = ("auto", "fused", "reference")
CHECKED = "_checked_by_kernels"  # the attribute of a fused network that holds its `_Checked`
Network = TypeVar("Network", bound=nn.Module)


def fuse(network: Network, device: str | None = None) -> Network:
    """Let the kernels compute a DenseNet of densenet_cli, torchvision, timm or MONAI (2-D).

    Outputs, gradients and running statistics are the same but for rounding; dropout draws other masks
    of the same distribution. The modules still compute where the kernels cannot: if a module has a hook
    or was changed, and in torch.compile, torch.export and other tracers.

    Args:
        network: changed in place.
        device: where it will compute, "cpu" or "cuda"; by default where it is now. Kernels for the CPU
            are compiled at once, those for a GPU with the first batch.

    Returns:
        The network.

    Raises:
        UserError: the kernels cannot compute this network, or not on this device; says why.
    """
    if is_fused(network):
        return network
    try:
        parts = parts_of(network)
        weight = next(network.parameters())
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
        vars(network).pop(CHECKED, None)
    return network


def is_fused(network: nn.Module) -> bool:
    """Whether the kernels are attached to a network."""
    return "unfused" in vars(type(network))


def attach(network: nn.Module, implementation: str, device: str) -> None:
    """Fuse a network if the option `implementation` asks for that.

    Args:
        network: any network.
        implementation: "fused", "reference" (do not fuse), or "auto": fused on CPUs if the kernels can
            compute the network. Not on GPUs: there they are faster only where steps are replayed as
            CUDA graphs, and compiling them takes half a minute.
        device: where the network will compute: cpu, cuda or mps.

    Raises:
        OptionError: "fused", but the kernels cannot compute this network, or not on this device.
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
    """What computes a network: "fused" or "reference"; None if the kernels cannot compute it."""
    try:
        parts_of(network)
    except CannotFuse:
        return None
    return "fused" if is_fused(network) else "reference"


@functools.cache
def _fused(kind: Any) -> Any:
    """The class that fused networks of a class have."""
    signature = inspect.signature(kind.forward)

    @functools.wraps(kind.forward)
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if not torch.compiler.is_compiling():
            _, images = signature.bind(self, *args, **kwargs).args
            logits = _logits(self, images)
            if logits is not None:
                return logits
        return kind.forward(self, *args, **kwargs)

    def reduce(self: nn.Module, protocol: int) -> Any:  # copies and pickles name the original class
        _, _, state, *rest = kind.__reduce_ex__(self, max(protocol, 2))
        if isinstance(state, dict):
            state = {name: value for name, value in state.items() if name != CHECKED}
        return _new, (kind,), state, *rest

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
    """A fused network without attributes, which copying and unpickling then add."""
    fused = _fused(kind)
    return fused.__new__(fused)


def _logits(network: nn.Module, images: Any) -> Tensor | None:
    """The logits, computed by the kernels; None if the modules must compute them."""
    if is_watched(images):
        return None
    parts = _parts_if_computable(network, images)
    if parts is None:
        return None
    engine = engine_or_reason(images.device.type)
    if isinstance(engine, str):
        say_once(engine)
        return None
    training, means = parts.modules[0].training, None
    if not (training or torch.is_grad_enabled()) and is_whole_stem(parts, images):
        conv = cast(nn.Conv2d, parts.stem[0])
        means = parts.trunk.evaluate(conv, images, computed_with(images), engine)
    if means is None:
        maps = images
        for module in parts.stem:
            maps = module(maps)
        if not parts.trunk.takes(maps):  # the modules say what is wrong
            return None
        means = parts.trunk(maps, engine, training)
    for module in parts.head:
        means = module(means)
    return means


class _Checked(NamedTuple):
    """The parts of a network, which the kernels can compute as long as it stays as it is.

    Attributes:
        form: the number format that parameters must have, and their device.
    """

    parts: Parts
    form: Any
    snapshot: Snapshot

    def holds(self, network: nn.Module, form: Any) -> bool:
        library = self.parts.made_by
        return (
            self.form == form
            and library.computes(network)
            and all(kind.forward is forward for kind, forward in library.forwards.items())
            and self.snapshot.holds(network)
        )


def _parts_if_computable(network: nn.Module, images: Tensor) -> Parts | None:
    """The parts of a network; None if the modules must compute these images."""
    form = REAL.get(computed_with(images)), images.device
    checked: _Checked | None = vars(network).get(CHECKED)
    if checked is not None:
        if checked.holds(network, form):
            return checked.parts
        vars(network).pop(CHECKED, None)  # another thread may have done so
    try:
        parts = parts_of(network)
    except CannotFuse:
        return None
    if not is_computable(parts, images):
        return None
    vars(network)[CHECKED] = _Checked(parts, form, Snapshot(network, parts.modules))
    return parts
