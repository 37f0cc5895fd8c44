"""The units of a network: the parts that can be deleted, or swapped with one another.

Residual block (ResNet, pre-activation, wide). Deleted: its branch outputs zeros; the shortcut stays.
Swapped: two blocks of equal shapes in one stage change places. As in Veit et al. 2016
(arXiv:1605.06431, sec. 4).

Layer of a DenseNet. Deleted: all readers of its k maps read zeros. Swapped: all modules that read the
maps of both layers read each layer's maps in the columns of the other's. This definition is ours: each
layer reads more maps than the one before it, so two layers cannot change places themselves, but their
output maps can, for the later layers of the block and for the transition or classifier after it.

Layer of a plain network such as VGG: a convolution with its batch norm. Deleted: its input passes
through unchanged. Swapped: two layers of equal shapes and resolution change places. Without a shortcut
this is possible only where input and output have equal shapes, in nine of the thirteen convolutions of
VGG-16. Such layers are found after a ReLU or a max pooling in a Sequential.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from densenet_cli.analysis.reuse.connections import Connections, connections
from densenet_cli.models.preact_resnet import PreActivationUnit
from densenet_cli.models.resnet import ResidualBlock
from densenet_cli.options import UserError

# The module of a residual block whose output is added to the shortcut.
BRANCH_ENDS: dict[type[nn.Module], str] = {
    ResidualBlock: "bn2",
    PreActivationUnit: "branch",
    BasicBlock: "bn2",
    Bottleneck: "bn3",
}

Place = tuple[nn.Module, str]
"""A module and the name of one of its children."""


@dataclass(frozen=True, eq=False)
class Unit(ABC):
    """A part of a network that can be deleted and swapped.

    Attributes:
        name: of its module, as in the state dict.
        group: units of the same group can be swapped.
        output: the module whose output a deletion sets to a constant; None if a deletion passes the
            unit's input on instead.
    """

    name: str
    group: Hashable
    output: nn.Module | None

    @abstractmethod
    def delete(self, undo: ExitStack, mean: Tensor | None = None) -> None:
        """Delete the unit until `undo` is closed; weights are not changed.

        Args:
            undo: receives the callbacks that restore the network.
            mean: (maps,) constants that replace the unit's maps; None: zeros.
        """

    @abstractmethod
    def swap(self, other: Any, undo: ExitStack) -> None:
        """Swap the unit with another one of its group until `undo` is closed."""


@dataclass(frozen=True, eq=False)
class Block(Unit):
    """A residual block; `place` is its parent module and its name there."""

    place: Place

    def delete(self, undo: ExitStack, mean: Tensor | None = None) -> None:
        """The branch outputs zeros, or its mean."""
        assert self.output is not None
        undo.enter_context(self.output.register_forward_hook(_constant(mean)))

    def swap(self, other: Block, undo: ExitStack) -> None:
        """The blocks change places."""
        _swap_places(self.place, other.place)
        undo.callback(_swap_places, self.place, other.place)


@dataclass(frozen=True, eq=False)
class DenseLayer(Unit):
    """A layer of a dense block; `source` is its index among the sources of the block's readers."""

    block: Connections
    source: int

    def delete(self, undo: ExitStack, mean: Tensor | None = None) -> None:
        """All readers of its new maps read zeros, or the maps' means."""
        assert self.output is not None
        undo.enter_context(self.output.register_forward_hook(_constant(mean)))

    def swap(self, other: DenseLayer, undo: ExitStack) -> None:
        """All readers of both layers' maps read those of each in the columns of the other."""
        ours, theirs = (self.block.sources[unit.source] for unit in (self, other))
        both = max(self.source, other.source)
        for reader in self.block.readers[both:]:
            hook = _swap_columns(ours, theirs)
            undo.enter_context(reader.norm.register_forward_pre_hook(hook))


@dataclass(frozen=True, eq=False)
class PlainLayer(Unit):
    """A convolution of equal input and output shape in a plain network, with its batch norm if any.

    The ReLU after it stays: it does not change the layer's input, which has passed a ReLU already.
    """

    places: tuple[Place, ...]

    def delete(self, undo: ExitStack, mean: Tensor | None = None) -> None:
        """The layer passes its input on; there are no maps that a mean could replace."""
        assert mean is None
        for parent, name in self.places:
            undo.enter_context(getattr(parent, name).register_forward_hook(_pass_input))

    def swap(self, other: PlainLayer, undo: ExitStack) -> None:
        """The layers change places."""
        for ours, theirs in zip(self.places, other.places, strict=True):
            _swap_places(ours, theirs)
            undo.callback(_swap_places, ours, theirs)


def find_units(network: nn.Module) -> list[Unit]:
    """The units of a network, from input to output.

    Raises:
        UserError: it has no units of a known kind.
    """
    for find in (_blocks, _dense_layers, _plain_layers):
        if units := find(network):
            return units
    raise UserError(
        f"{type(network).__name__} has no residual blocks, no dense layers and no convolutions of "
        "equal input and output shape to delete"
    )


def _blocks(network: nn.Module) -> list[Unit]:
    units: list[Unit] = []
    for name, module in network.named_modules():
        if type(module) in BRANCH_ENDS:
            parent, _, key = name.rpartition(".")
            shapes = tuple(parameter.shape for parameter in module.parameters())
            end = module.get_submodule(BRANCH_ENDS[type(module)])
            units.append(Block(name, (parent, shapes), end, (network.get_submodule(parent), key)))
    return units


def _dense_layers(network: nn.Module) -> list[Unit]:
    try:
        blocks = connections(network)
    except UserError:
        return []
    return [
        DenseLayer(f"features.{block.name}.{name}", block.name, layer, block, source)
        for block in blocks
        for source, (name, layer) in enumerate(block.layers.items(), start=1)
    ]


def _plain_layers(network: nn.Module) -> list[Unit]:
    return [
        unit
        for path, parent in network.named_modules()
        if isinstance(parent, nn.Sequential)
        for unit in _layers_of(parent, path)
    ]


def _layers_of(parent: nn.Sequential, path: str) -> Iterator[PlainLayer]:
    """The layers of a Sequential that can be deleted; those of a group have one resolution."""
    chain = list(parent.named_children())
    poolings = 0
    for (_, before), (name, module), (norm, following) in zip(
        chain, chain[1:], [*chain[2:], ("", None)], strict=False
    ):
        poolings += _shrinks(before)
        if _keeps_shape(module) and isinstance(before, (nn.ReLU, nn.MaxPool2d)):
            places = [(parent, name)]
            if isinstance(following, nn.BatchNorm2d):
                places.append((parent, norm))
            group = path, poolings, module.weight.shape, len(places)
            yield PlainLayer(f"{path}.{name}".lstrip("."), group, None, tuple(places))


def _shrinks(module: nn.Module) -> bool:
    return getattr(module, "stride", 1) not in (1, (1, 1))


def _keeps_shape(module: nn.Module) -> bool:
    if not isinstance(module, nn.Conv2d) or module.in_channels != module.out_channels:
        return False
    same = tuple(size // 2 for size in module.kernel_size)
    return module.stride == (1, 1) and module.padding == same


def _constant(mean: Tensor | None) -> Callable[..., Tensor]:
    def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        zeros = torch.zeros_like(output)
        return zeros if mean is None else zeros + mean.to(output)[:, None, None]

    return hook


def _pass_input(module: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
    return args[0]


def _swap_places(one: Place, other: Place) -> None:
    mine, theirs = getattr(*one), getattr(*other)
    setattr(*one, theirs)
    setattr(*other, mine)


def _swap_columns(one: slice, other: slice) -> Callable[..., tuple[Tensor]]:
    def hook(module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        maps = args[0].clone()
        maps[:, one], maps[:, other] = args[0][:, other], args[0][:, one]
        return (maps,)

    return hook
