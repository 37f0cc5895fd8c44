"""The parts of a network that can be deleted, or exchanged with one another.

Residual block (ResNet, pre-activation, wide): deleted, its branch gives zeros and the shortcut stays;
exchanged, each of two blocks of equal shapes in a stage stands in the other's place. As Veit et al.
2016 (arXiv:1605.06431, sec. 4).

Layer of a DenseNet: deleted, all that read its k maps find zeros; exchanged, all that read the maps of
both layers find those of each where they expect the other's. There is no customary definition. A layer
reads more maps than the one before it, so two cannot stand in each other's place; what can change
places are the maps they give, for the later layers of the block and what comes after it.

Layer of a plain net such as VGG, a convolution with its batch norm: deleted, what it reads passes as if
it were the identity; exchanged, each of two of equal shapes and resolution stands in the other's place.
Without a shortcut that is possible only where input and output have equal shapes: in nine of the
thirteen convolutions of VGG-16. They are looked for behind a ReLU or a max-pooling in a Sequential.
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
    """A part of a network, which knows how to be deleted and how to be exchanged.

    Attributes:
        name: of its module, as in the state dict.
        group: units of the same group can be exchanged.
        output: the module whose output a deletion sets to a constant; None where the unit's input
            passes instead.
    """

    name: str
    group: Hashable
    output: nn.Module | None

    @abstractmethod
    def delete(self, undo: ExitStack, mean: Tensor | None = None) -> None:
        """Delete the unit until `undo` is closed; weights stay as they are.

        Args:
            undo: takes what restores the network.
            mean: (maps,) constants to put in place of the unit's maps; None means zeros.
        """

    @abstractmethod
    def exchange(self, other: Any, undo: ExitStack) -> None:
        """Let the unit and another of its group change places until `undo` is closed."""


@dataclass(frozen=True, eq=False)
class Block(Unit):
    """A residual block; `place` is where it stands."""

    place: Place

    def delete(self, undo: ExitStack, mean: Tensor | None = None) -> None:
        """The branch adds nothing, or its mean."""
        assert self.output is not None
        undo.enter_context(self.output.register_forward_hook(_constant(mean)))

    def exchange(self, other: Block, undo: ExitStack) -> None:
        """Each block stands in the other's place."""
        _exchange_places(self.place, other.place)
        undo.callback(_exchange_places, self.place, other.place)


@dataclass(frozen=True, eq=False)
class DenseLayer(Unit):
    """A layer of a dense block, the `source`-th one that the block's readers know."""

    block: Connections
    source: int

    def delete(self, undo: ExitStack, mean: Tensor | None = None) -> None:
        """Its new maps are zeros, or their means, for all that read them."""
        assert self.output is not None
        undo.enter_context(self.output.register_forward_hook(_constant(mean)))

    def exchange(self, other: DenseLayer, undo: ExitStack) -> None:
        """All that read the maps of both find those of each in the columns of the other."""
        ours, theirs = (self.block.sources[unit.source] for unit in (self, other))
        both = max(self.source, other.source)
        for reader in self.block.readers[both:]:
            hook = _exchange_columns(ours, theirs)
            undo.enter_context(reader.norm.register_forward_pre_hook(hook))


@dataclass(frozen=True, eq=False)
class PlainLayer(Unit):
    """A convolution of equal input and output shape in a plain net, with its batch norm if any.

    The ReLU after it stays: it changes nothing, since the layer reads what was rectified before.
    """

    places: tuple[Place, ...]

    def delete(self, undo: ExitStack, mean: Tensor | None = None) -> None:
        """What the layer reads passes; a mean has no place here."""
        assert mean is None
        for parent, name in self.places:
            undo.enter_context(getattr(parent, name).register_forward_hook(_pass_input))

    def exchange(self, other: PlainLayer, undo: ExitStack) -> None:
        """Each layer stands in the other's place."""
        for ours, theirs in zip(self.places, other.places, strict=True):
            _exchange_places(ours, theirs)
            undo.callback(_exchange_places, ours, theirs)


def find_units(network: nn.Module) -> list[Unit]:
    """The units of a network, from input to output.

    Raises:
        UserError: it has none of a known kind.
    """
    for find in (_blocks, _dense_layers, _plain_layers):
        if units := find(network):
            return units
    raise UserError(
        f"{type(network).__name__} has no residual blocks, no dense layers and no convolutions of "
        "equal input and output shape that could be deleted"
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
    """The layers of a chain of modules that can be deleted; a group has one resolution."""
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


def _exchange_places(one: Place, other: Place) -> None:
    mine, theirs = getattr(*one), getattr(*other)
    setattr(*one, theirs)
    setattr(*other, mine)


def _exchange_columns(one: slice, other: slice) -> Callable[..., tuple[Tensor]]:
    def hook(module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        maps = args[0].clone()
        maps[:, one], maps[:, other] = args[0][:, other], args[0][:, one]
        return (maps,)

    return hook
