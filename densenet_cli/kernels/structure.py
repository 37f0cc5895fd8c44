"""The modules that the kernels compute, in the order in which they follow each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from densenet_cli.kernels.maps import Maps


@dataclass(frozen=True)
class Convolution:
    """Batch norm, ReLU, convolution and dropout; `dropout` is a probability below 1."""

    norm: nn.BatchNorm2d
    conv: nn.Conv2d
    dropout: float


Layer = Sequence[Convolution]
"""One convolution, or a bottleneck's 1x1 convolution and the 3x3 convolution that reads it."""


@dataclass(frozen=True)
class Structure:
    """The modules of a DenseNet between its first convolution and its classifier.

    Attributes:
        blocks: the layers of each block.
        transitions: the convolutions between blocks; 2x2 average pooling follows each.
        last: the batch norm after the last block; ReLU and the mean of each map follow.
        first: the batch norm of the imagenet stem; ReLU and 3x3 max pooling of stride 2 follow.
        packed: what an engine makes of the weights for evaluation, by whatever it depends on.
    """

    blocks: Sequence[Sequence[Layer]]
    transitions: Sequence[Convolution]
    last: nn.BatchNorm2d
    first: nn.BatchNorm2d | None = None
    packed: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    def convolutions(self) -> list[Convolution]:
        """All convolutions, in the order they are computed."""
        steps: list[Convolution] = []
        for index, block in enumerate(self.blocks):
            steps += [step for layer in block for step in layer]
            steps += self.transitions[index : index + 1]
        return steps

    def norms(self) -> list[nn.BatchNorm2d]:
        """All batch norms."""
        ends = [self.last] if self.first is None else [self.first, self.last]
        return [*(step.norm for step in self.convolutions()), *ends]

    @property
    def channels(self) -> int:
        """The number of maps it is given, C0."""
        return (self.blocks[0][0][0].norm if self.first is None else self.first).num_features

    def takes(self, stem: Tensor) -> bool:
        """Whether maps have C0 channels, and are large enough for all transitions."""
        side = min(stem.shape[-2:])
        side = side if self.first is None else (side + 1) // 2
        return stem.ndim == 4 and stem.shape[1] == self.channels and side >> len(self.transitions) > 0

    def buffers(self, first: Maps) -> list[Maps]:
        """Those of all blocks, where nothing is measured; the first one is given."""
        buffers = [first]
        for index, step in enumerate(self.transitions):
            last, channels = buffers[-1], self.width(index + 1, step.conv.out_channels)
            size = last.images, last.height // 2, last.width // 2, channels
            buffers.append(Maps(first.values, *size, measured=False))
        return buffers

    def width(self, block: int, channels: int) -> int:
        """The number of maps at the end of a block that begins with `channels`."""
        return channels + sum(layer[-1].conv.out_channels for layer in self.blocks[block])
