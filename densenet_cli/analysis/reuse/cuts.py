"""The error of a DenseNet whose late layers do not get the early maps of their block.

Weights alone cannot show that maps are read: those of an untrained network are even. So connections are
cut here: in each dense block of three layers or more the maps of the first third of the layers (rounded
down) are replaced, for some of their readers, by each map's mean over images and positions. Everything
else stays: the other readers get the maps, and the readers get all others. If the maps were not read,
the error would stay as it is; that of an untrained network does.

The late layers are the last third, so that no early layer is next to one: what is cut are direct
connections over at least a third of the block.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from densenet_cli.analysis.forward import Batches, in_double, logits_and_labels
from densenet_cli.analysis.reuse.connections import Connections, Reader, connections

Z = 1.959964  # of the normal distribution, for 95 %


@dataclass(frozen=True)
class Change:
    """By how many points the test error changes, with its 95 % interval over images."""

    points: float
    low_points: float
    high_points: float


@dataclass(frozen=True)
class EarlyMaps:
    """What the early maps of its blocks are worth to a network.

    Attributes:
        error: test error of the whole network, in percent.
        layers: with the connections to the last third of the layers of each block cut; None if no
            block has three layers.
        ends: with the connections to the transition or classifier after each block cut; None as well.
    """

    error: float
    layers: Change | None
    ends: Change | None


def early_maps(network: nn.Module, batches: Batches) -> EarlyMaps:
    """Measure what the early maps are worth to their late readers; the network is left unchanged.

    Args:
        network: a DenseNet, of any kind that `connections` supports.
        batches: test images.

    Raises:
        UserError: it is not a DenseNet.
    """
    blocks = [block for block in connections(network) if len(block.layers) >= 3]
    before = _wrong(network, batches)
    error = 100 * float(before.double().mean())
    if not blocks:
        return EarlyMaps(error, None, None)
    means = _means(network, blocks, batches)
    changes = []
    for readers in (late_layers, end):
        with cut(blocks, means, readers):
            changes.append(change(before, _wrong(network, batches)))
    return EarlyMaps(error, *changes)


def late_layers(block: Connections) -> list[Reader]:
    """The last third of the layers of a block."""
    layers = len(block.layers)
    return block.readers[layers - layers // 3 : layers]


def end(block: Connections) -> list[Reader]:
    """The transition or classifier after a block."""
    return block.readers[-1:]


@contextmanager
def cut(
    blocks: Iterable[Connections],
    means: dict[str, Tensor],
    readers: Callable[[Connections], list[Reader]],
) -> Iterator[None]:
    """Within the context these readers of each block get the means of its early layers' maps.

    Args:
        blocks: dense blocks of three layers or more.
        means: of all maps of each block, (maps,), by the block's name.
        readers: chooses those of a block; they must come after its first third of layers.
    """
    with ExitStack() as hooks:
        for block in blocks:
            early = block.sources[1 : 1 + len(block.layers) // 3]
            hook = _replacing(slice(early[0].start, early[-1].stop), means[block.name])
            for reader in readers(block):
                hooks.enter_context(reader.norm.register_forward_pre_hook(hook))
        yield


def change(before: Tensor, after: Tensor) -> Change:
    """The change of an error, given which images are classified wrongly, (N,) bool, before and after.

    The interval is that of Agresti and Min 2005 (doi:10.1002/sim.1781) for paired proportions: half an
    image is added to each of the four cells, so that it has a width also where nothing changes.
    """
    images = len(before) + 2
    worse = int((after & ~before).sum()) + 0.5
    better = int((before & ~after).sum()) + 0.5
    centre = (worse - better) / images
    half = Z * math.sqrt(worse + better - images * centre**2) / images
    points = (worse - better) / len(before)
    return Change(100 * points, 100 * (centre - half), 100 * (centre + half))


def _wrong(network: nn.Module, batches: Batches) -> Tensor:
    logits, labels = logits_and_labels(network, batches)
    return logits.argmax(1) != labels


def _means(network: nn.Module, blocks: list[Connections], batches: Batches) -> dict[str, Tensor]:
    """The mean of each map of a block, over images and positions: (maps,) by the block's name."""
    seen: dict[str, list[Tensor]] = {block.name: [] for block in blocks}

    def noting(name: str) -> Callable[..., None]:
        return lambda module, args: seen[name].append(in_double(args[0]).mean((2, 3)))

    with ExitStack() as hooks:
        for block in blocks:
            norm = block.readers[-1].norm
            hooks.enter_context(norm.register_forward_pre_hook(noting(block.name)))
        logits_and_labels(network, batches)
    return {name: torch.cat(means).mean(0) for name, means in seen.items()}


def _replacing(columns: slice, means: Tensor) -> Callable[..., Any]:
    def hook(module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        maps = args[0].clone()
        maps[:, columns] = means[columns].to(maps)[:, None, None]
        return (maps,)

    return hook
