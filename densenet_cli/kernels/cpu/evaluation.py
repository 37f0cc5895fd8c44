"""Networks in evaluation: their weights, packed once for many batches.

To pack the weights of DenseNet-121 takes a quarter of the time of evaluating one image. So they are
kept packed, with a digest of the numbers they were made of. Each batch computes the digest anew, as
fast as memory can be read: optimizers, `tensor.data` or another process that shares the memory can
change numbers without a trace in `tensor._version`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from densenet_cli.kernels.cpu.calls import NUMBER, Block, Convolution, Network, Region
from densenet_cli.kernels.maps import BatchNorm, Maps
from densenet_cli.kernels.structure import Structure


class PackedTrunk:
    """A trunk as the library evaluates it. Does not change: several threads may use it at once.

    Args:
        library: the compiled library.
        trunk: for which `checks.is_computable` is true, and stays true.
        conv: the stem for ImageNet, if the library shall compute it too.
        dtype: the number format of feature maps.
    """

    def __init__(
        self, library: ctypes.CDLL, trunk: Structure, conv: nn.Conv2d | None, dtype: torch.dtype
    ) -> None:
        self._library, self._dtype = library, dtype
        self._lengths = [
            sum(map(len, block)) + len(trunk.transitions[index : index + 1])
            for index, block in enumerate(trunk.blocks)
        ]
        steps = [(step.norm, step.conv.weight) for step in trunk.convolutions()]
        first = [] if conv is None else [(cast(nn.BatchNorm2d, trunk.first), conv.weight)]
        described = [*steps, *first, (trunk.last, None)]
        self._tensors = [tensor for norm, weight in described for tensor in _numbers(norm, weight)]
        self._regions = (Region * len(self._tensors))(*map(_region, self._tensors))
        # As the library reads them, channels last; needed until they are packed.
        weights = [
            None if weight is None else weight.contiguous(memory_format=torch.channels_last)
            for _, weight in described
        ]
        works = [_work(norm, weight) for (norm, _), weight in zip(described, weights, strict=True)]
        self._last = works.pop()
        self._stem = works.pop() if first else Convolution()
        self._steps = (Convolution * len(works))(*works)
        network = self._network(
            (Block * len(trunk.blocks))(*(Block(length) for length in self._lengths))
        )
        self._packed = torch.empty(self._call("packed_bytes", network), dtype=torch.uint8)
        network.packed = self._packed.data_ptr()
        self._look_at_numbers(network)
        self._digest = self._call("pack", network, ctypes.c_uint64)

    def means(
        self, buffers: Sequence[Maps], images: Tensor | None, unless_changed: bool = True
    ) -> Tensor | None:
        """The means (N, C) of the last maps.

        Args:
            buffers: of all blocks; in the first one, the first maps are there if no images are given.
            images: (N, C, H, W), if the stem was packed too.
            unless_changed: whether to return None if the trunk's numbers are no longer those that were
                packed; else these are used.
        """
        first = buffers[0]
        blocks = (
            Block(length, maps.height, maps.width, maps.values.data_ptr(), maps.pitch)
            for length, maps in zip(self._lengths, buffers, strict=True)
        )
        network = self._network((Block * len(buffers))(*blocks))
        network.packed, network.images = self._packed.data_ptr(), first.images
        if images is not None:
            images = images.contiguous(memory_format=torch.channels_last)
            network.pixels = images.data_ptr()
            network.height, network.width = images.shape[2:]
        means = first.values.new_empty(first.images, self._last.in_channels)
        network.means = means.data_ptr()
        if unless_changed:
            self._look_at_numbers(network)
            network.digest = self._digest
        return means if self._call("evaluate", network) else None

    def _look_at_numbers(self, network: Network) -> None:
        network.numbers, network.number_count = self._regions, len(self._regions)

    def _network(self, blocks: ctypes.Array[Block]) -> Network:
        network = Network(self._steps, blocks, len(blocks), self._stem, self._last)
        network.threads = torch.get_num_threads()
        return network

    def _call(self, function: str, network: Network, result: Any = NUMBER) -> Any:
        call = getattr(self._library, f"{function}_{str(self._dtype).removeprefix('torch.')}")
        call.restype = result
        return call(ctypes.byref(network))


def _numbers(norm: nn.BatchNorm2d, weight: Tensor | None) -> list[Tensor]:
    """All tensors that a batch norm and a convolution compute with in evaluation."""
    own = BatchNorm.of(norm)
    numbers = [own.weight, own.bias, own.running_mean, own.running_var]
    return numbers if weight is None else [*numbers, weight]


def _region(tensor: Tensor) -> Region:
    """The memory from a tensor's first number to its last one."""
    if tensor.numel() == 0:
        return Region(None, 0)
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    last = sum((size - 1) * stride for size, stride in steps)
    return Region(tensor.data_ptr(), (last + 1) * tensor.element_size())


def _work(norm: nn.BatchNorm2d, weight: Tensor | None) -> Convolution:
    """A batch norm, and a convolution if there is a weight; the maps are not known yet."""
    own, work = BatchNorm.of(norm), Convolution()
    work.in_channels, work.epsilon = own.num_features, own.eps
    work.mean, work.variance = own.running_mean.data_ptr(), own.running_var.data_ptr()
    work.gamma, work.beta = own.weight.data_ptr(), own.bias.data_ptr()
    if weight is not None:
        work.out_channels, work.in_channels, work.size, _ = weight.shape
        work.weight = weight.data_ptr()
    return work
