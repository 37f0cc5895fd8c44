"""What a fused DenseNet asks of the code that computes it, on the CPU or a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from densenet_cli.kernels.maps import BatchNorm, Maps

DRAW = 2**40
"""How far apart the dropout masks of one pass are: more than a layer has elements."""

Correction = tuple[Tensor, Tensor] | None
"""Slope and offset: what completes a gradient, see `Maps.correction`."""


class ConvolutionWork(NamedTuple):
    """Columns `column`... of target = dropout(conv(ReLU(norm(first columns of source)))).

    Attributes:
        weight: of conv, (out, in, 1, 1) or (out, in, 3, 3); stride 1, zeros around the image.
        column: where the target's new columns begin; at 0, nobody else writes any of it.
        dropout: chance; the mask depends on seed + DRAW·draw and place alone.
        seed: one int64 on the maps' device; None without dropout.
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

    def copy(self, values: Tensor, target: Maps) -> None:
        """Write values (N, C, H, W) into the first C columns of target."""

    def convolve(self, steps: Sequence[ConvolutionWork]) -> None:
        """Compute convolutions one after another, all on images of one size.

        Like all steps that write maps, they measure their statistics if target.measured.
        """

    def convolve_backward(self, steps: Sequence[ConvolutionWork]) -> list[Tensor]:
        """The same backwards: add to the gradients of the sources, from those of the targets.

        Maps that one of the steps writes whole and the next one reads are done with afterwards, and
        have no gradient.

        Returns:
            The gradients of each step's weight, γ and β, in the order of the steps.
        """

    def measure(self, maps: Maps) -> None:
        """Measure the statistics of maps whose values are there."""

    def max_pool(self, source: Maps, norm: BatchNorm, target: Maps) -> Tensor:
        """First columns of target = the largest of 3x3 pixels, 2 apart, of ReLU(norm(source)).

        Returns:
            Which of the nine was the largest, counted row by row: (target.pixels, C) uint8. The first
            of equal ones, as in PyTorch.
        """

    def max_pool_backward(
        self, source: Maps, norm: BatchNorm, target: Maps, choice: Tensor, correction: Correction
    ) -> tuple[Tensor, Tensor]:
        """Write source.gradient from that of the target's first columns; the gradients of γ and β."""

    def average_pool(self, source: Maps, target: Maps) -> None:
        """Write means of 2x2 pixels of source into the first columns of target."""

    def average_pool_backward(self, source: Maps, target: Maps, correction: Correction) -> None:
        """Write source.gradient: that of the target's first columns, completed and shared out."""

    def mean_activation(self, source: Maps, norm: BatchNorm) -> Tensor:
        """The mean of ReLU(norm(source)) over each image, (N, C)."""

    def mean_activation_backward(
        self, source: Maps, norm: BatchNorm, gradient: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Write source.gradient from the gradient (N, C) of the means; the gradients of γ and β."""

    def corrected(self, source: Maps, channels: int, correction: Correction) -> Tensor:
        """The completed gradient of the first columns of source, (N, channels, H, W)."""
