"""What a fused DenseNet asks of the code that computes it, on the CPU or a GPU."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from densenet_cli.kernels.maps import Maps, Norm

Correction = tuple[Tensor, Tensor] | None
"""Slope and offset: what completes a gradient, see `Maps.correction`."""


class Engine(Protocol):
    """The steps of a DenseNet on `Maps` of one number format; parameters are of its REAL."""

    def copy(self, values: Tensor, target: Maps) -> None:
        """Write values (N, C, H, W) into the first C columns of target."""

    def convolve(
        self,
        source: Maps,
        norm: Norm,
        weight: Tensor,
        target: Maps,
        column: int,
        dropout: float,
        seed: int,
    ) -> None:
        """Columns `column`... of target = dropout(conv(ReLU(norm(first columns of source)))).

        Like all steps that write maps, it measures their statistics if target.measured.

        Args:
            weight: (out, in, 1, 1) or (out, in, 3, 3); stride 1, zeros around the image.
            dropout: chance; the mask depends on seed and place alone.
        """

    def convolve_backward(
        self, source: Maps, norm: Norm, weight: Tensor, target: Maps, column: int,
        dropout: float, seed: int, correction: Correction, accumulate: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """Add to source.gradient, or write it unless accumulate; the gradients of weight, γ and β.

        The gradient of the columns that were written is target.gradient + slope·(x - mean) + offset.
        """

    def measure(self, maps: Maps) -> None:
        """Measure the statistics of maps whose values are there."""

    def max_pool(self, source: Maps, norm: Norm, target: Maps) -> Tensor:
        """First columns of target = the largest of 3x3 pixels, 2 apart, of ReLU(norm(source)).

        Returns:
            Which of the nine was the largest, counted row by row: (target.pixels, C) uint8. The first
            of equal ones, as in PyTorch.
        """

    def max_pool_backward(
        self, source: Maps, norm: Norm, target: Maps, choice: Tensor, correction: Correction
    ) -> tuple[Tensor, Tensor]:
        """Write source.gradient from that of the target's first columns; the gradients of γ and β."""

    def average_pool(self, source: Maps, target: Maps) -> None:
        """Write means of 2x2 pixels of source into the first columns of target."""

    def average_pool_backward(self, source: Maps, target: Maps, correction: Correction) -> None:
        """Write source.gradient: that of the target's first columns, completed and shared out."""

    def mean_activation(self, source: Maps, norm: Norm) -> Tensor:
        """The mean of ReLU(norm(source)) over each image, (N, C)."""

    def mean_activation_backward(
        self, source: Maps, norm: Norm, gradient: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Write source.gradient from the gradient (N, C) of the means; the gradients of γ and β."""

    def corrected(self, source: Maps, channels: int, correction: Correction) -> Tensor:
        """The completed gradient of the first columns of source, (N, channels, H, W)."""
