"""The feature maps that each reader of a dense block reads: layers, the transition, the classifier."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from densenet_cli.analysis.forward import in_double
from densenet_cli.options import UserError


@dataclass(frozen=True)
class Reader:
    """A module that reads the first maps of a dense block through a batch norm and a ReLU.

    Attributes:
        name: as "denselayer3", "transition1" or "classifier".
        norm: normalises the maps that are read.
        linear: the first weights that read them: a plain layer's 3x3 convolution, a bottleneck layer's
            1x1 convolution, the transition's 1x1 convolution or the classifier.
    """

    name: str
    norm: nn.BatchNorm2d
    linear: nn.Conv2d | nn.Linear


@dataclass(frozen=True)
class Connections:
    """A dense block with all its readers.

    Attributes:
        name: as "denseblock1".
        layers: its L layers by name; each outputs its new maps only.
        readers: the layers in order, then the transition or classifier after the block. The reader
            at position l reads the sources 0 to l: the block's input and the layers before it.
        sources: the columns of each source's maps; L + 1 slices, the first for the block's input, the
            others for the layers.
    """

    name: str
    layers: dict[str, nn.Module]
    readers: list[Reader]
    sources: list[slice]


def connections(network: nn.Module) -> list[Connections]:
    """The dense blocks of a DenseNet, in order.

    Args:
        network: ours, torchvision's or timm's, which all give these modules the same names.

    Raises:
        UserError: it is not a DenseNet.
    """
    children = dict(features.named_children()) if (features := _features(network)) else {}
    blocks = [name for name in children if name.startswith("denseblock")]
    if not blocks:
        raise UserError(f"{type(network).__name__} is not a DenseNet: it has no dense blocks")
    ends = [
        _reader(name, module, "norm", "conv")
        for name, module in children.items()
        if name.startswith("transition")
    ]
    ends.append(_reader("classifier", network, "features.norm5", "classifier"))
    return [_connections(name, children[name], end) for name, end in zip(blocks, ends, strict=True)]


def _features(network: nn.Module) -> nn.Module | None:
    features = getattr(network, "features", None)
    return features if isinstance(features, nn.Module) else None


def _reader(name: str, owner: nn.Module, norm: str, linear: str) -> Reader:
    return Reader(
        name,
        cast(nn.BatchNorm2d, owner.get_submodule(norm)),
        cast(nn.Conv2d, owner.get_submodule(linear)),
    )


def _connections(name: str, block: nn.Module, end: Reader) -> Connections:
    layers = dict(block.named_children())
    readers = [_reader(key, layer, "norm1", "conv1") for key, layer in layers.items()]
    widths = [readers[0].norm.num_features, *map(_new_maps, layers.values())]
    bounds = itertools.accumulate(widths, initial=0)
    sources = [slice(low, high) for low, high in itertools.pairwise(bounds)]
    return Connections(name, layers, [*readers, end], sources)


def _new_maps(layer: nn.Module) -> int:
    """The number of maps that a layer adds: k."""
    convolutions = [module for module in layer.modules() if isinstance(module, nn.Conv2d)]
    return convolutions[-1].out_channels


def per_input_map(reader: Reader) -> Tensor:
    """The mean absolute weight of a reader for each map it reads, (maps,)."""
    return in_double(reader.linear.weight.detach()).abs().transpose(0, 1).flatten(1).mean(1)
