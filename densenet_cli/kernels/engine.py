"""The steps of a fused DenseNet, which an engine for the CPU or one for GPUs computes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor, nn

from densenet_cli.kernels.maps import BatchNorm, Maps
from densenet_cli.kernels.structure import Structure

DRAW = 2**40
"""The distance between the seeds of a pass's dropout masks: more than a layer has elements."""

Correction = tuple[Tensor, Tensor] | None
"""Slope and offset that complete a gradient; see `Maps.correction`."""


class ConvolutionWork(NamedTuple):
    """dropout(conv(ReLU(norm(first columns of source)))), written to target from `column` on.

    Attributes:
        weight: of conv, (out, in, 1, 1) or (out, in, 3, 3); stride 1, zero padding.
        column: the first column to write. If it is 0, this step alone writes the target.
        dropout: probability; the mask depends only on seed + DRAW·draw and on the element's place.
        seed: one int64 on the device of the maps; None without dropout.
    """

    source: Maps
    norm: BatchNorm
    weight: Tensor
    target: Maps
    column: int
    dropout: float
    seed: Tensor | None
    draw: int


class Engine(Protocol):
    """The steps of a DenseNet on `Maps` of one number format; parameters are of its REAL."""

    def start(self, weights: Sequence[Tensor], like: Tensor) -> Engine:
        """The engine for one forward pass and its backward passes.

        Args:
            weights: of all its convolutions.
            like: a tensor with the number format and device of the maps.
        """

    def copy(self, values: Tensor, target: Maps) -> None:
        """Write values (N, C, H, W) into the first C columns of target."""

    def convolve(self, steps: Sequence[ConvolutionWork]) -> None:
        """Compute convolutions one after another, all on images of one size.

        Like all methods that write maps, it measures their statistics if target.measured.
        """

    def evaluate(
        self, trunk: Structure, maps: Maps, conv: nn.Conv2d | None = None, images: Tensor | None = None
    ) -> Tensor | None:
        """The means (N, C) of a trunk's last maps, where nothing is measured, dropped or kept.

        Args:
            trunk: it may keep what the engine makes of its weights, in `trunk.packed`, for later calls.
            maps: the first block's buffer. Its first columns are written, unless images are given.
            conv: the stem for ImageNet: 7x7 with stride 2 and zero padding 3. The batch norm
                `trunk.first`, ReLU and the largest of 3x3 pixels, 2 apart, follow.
            images: (N, C, H, W), of the maps' REAL.

        Returns:
            None if the engine has no way of its own to do this.
        """

    def convolve_backward(self, steps: Sequence[ConvolutionWork]) -> list[Tensor]:
        """The backward pass of `convolve`: add to the gradients of the sources, and to their
        slope and offset if they are measured, as all methods that compute the gradients of γ and β.

        Maps that one of the steps writes alone (column 0) have no gradient afterwards: the next step
        was their only reader.

        Returns:
            The gradients of each step's weight, γ and β, in the order of the steps.
        """

    def measure(self, maps: Maps) -> None:
        """Measure the statistics of maps that have their values."""

    def max_pool(self, source: Maps, norm: BatchNorm, target: Maps) -> Tensor:
        """First columns of target = the largest of 3x3 pixels, 2 apart, of ReLU(norm(source)).

        Returns:
            Which of the nine pixels was the largest, counted row by row, (target.pixels, C) uint8; of
            equal ones the first, as in PyTorch.
        """

    def max_pool_backward(
        self, source: Maps, norm: BatchNorm, target: Maps, choice: Tensor, correction: Correction
    ) -> tuple[Tensor, Tensor]:
        """Write source.gradient, from that of the target. Returns the gradients of γ and β."""

    def average_pool(self, source: Maps, target: Maps) -> None:
        """Write means of 2x2 pixels of source into the first columns of target."""

    def average_pool_backward(self, source: Maps, target: Maps, correction: Correction) -> None:
        """Write source.gradient: a quarter of the target's completed one for each of 2x2 pixels."""

    def mean_activation(self, source: Maps, norm: BatchNorm) -> Tensor:
        """The mean of ReLU(norm(source)) over each image, (N, C)."""

    def mean_activation_backward(
        self, source: Maps, norm: BatchNorm, gradient: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Write source.gradient, from that of the means (N, C). Returns the gradients of γ and β."""

    def corrected(self, source: Maps, channels: int, correction: Correction) -> Tensor:
        """The completed gradient of the first columns of source, (N, channels, H, W)."""
