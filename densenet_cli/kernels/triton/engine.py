"""The engine for GPUs, which launches the Triton kernels.

Nothing waits for the GPU, and no sum depends on which program finishes first: two runs on GPUs of the
same kind give the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
from torch import Tensor, nn

from densenet_cli.kernels.engine import ConvolutionWork, Correction
from densenet_cli.kernels.maps import BatchNorm, Maps
from densenet_cli.kernels.structure import Structure
from densenet_cli.kernels.triton import map_kernels
from densenet_cli.kernels.triton.gradients import convolve_backward
from densenet_cli.kernels.triton.launch import (
    COLUMNS,
    NUMBER,
    PIXELS,
    Memory,
    Reader,
    Written,
    complete,
    convolve_step,
    group,
    launch,
    shares,
)
from densenet_cli.kernels.triton.weights import pack

BLOCKS = {"BLOCK_M": PIXELS, "BLOCK_N": COLUMNS}  # pixels and channels, in kernels without products


class TritonEngine:
    """Computes on the device and stream of the maps; see `Engine`.

    Columns of maps that are not written yet are zero: 1x1 convolutions read some of them.
    """

    _packed: dict[int, Tensor]
    _memory: Memory

    def start(self, weights: Sequence[Tensor], like: Tensor) -> TritonEngine:
        """The engine for one pass, with all weights packed."""
        engine = TritonEngine()
        engine._memory = Memory(like)
        engine._packed = {
            id(weight): packed for weight, packed in zip(weights, pack(weights, like), strict=True)
        }
        return engine

    def copy(self, values: Tensor, target: Maps) -> None:
        """Write values (N, C, H, W) into the first C columns of target."""
        rows = values.permute(0, 2, 3, 1).contiguous().flatten(0, 2)
        self._pool(rows, target.height, target.width, target, rows.shape[1], window=1)

    def convolve(self, steps: Sequence[ConvolutionWork]) -> None:
        """Compute convolutions one after another."""
        for step in steps:
            convolve_step(step, self._packed[id(step.weight)], self._memory)

    def evaluate(
        self, trunk: Structure, maps: Maps, conv: nn.Conv2d | None = None, images: Tensor | None = None
    ) -> None:
        """None: evaluation is the forward pass of training."""

    def convolve_backward(self, steps: Sequence[ConvolutionWork]) -> list[Tensor]:
        """Add to the gradients of the sources. Returns those of each step's weight, γ and β."""
        return convolve_backward(steps, self._packed, self._memory)

    def measure(self, maps: Maps) -> None:
        """Measure the statistics of maps that have their values."""
        self._pool(maps.values, maps.height, maps.width, maps, maps.channels, window=1, write=False)

    def max_pool(self, source: Maps, norm: BatchNorm, target: Maps) -> Tensor:
        """Write the largest of 3x3 pixels of ReLU(norm(source)) into the first columns of target."""
        channels, columns = source.channels, _blocks(target.pitch)
        programs, tiles = shares(target.pixels)
        choice = source.values.new_empty(target.pixels, channels, dtype=torch.uint8)
        launch(
            map_kernels.max_pool, (columns, programs),
            source.values, source.pitch, Reader.of(norm, source), source.height, source.width,
            target.values, target.pitch, choice,
            self._memory.measured(target, channels, columns, programs),
            target.pixels, target.height, target.width, channels, tiles,
            EPS=norm.eps, **BLOCKS, GROUP=group(programs),
        )  # fmt: skip
        return choice

    def max_pool_backward(
        self, source: Maps, norm: BatchNorm, target: Maps, choice: Tensor, correction: Correction
    ) -> tuple[Tensor, Tensor]:
        """Write source.gradient, from that of the target. Returns the gradients of γ and β."""
        programs, tiles = shares(source.pixels)
        columns = _blocks(source.channels)
        noted = self._memory.noted(source, source.channels, columns, programs)
        launch(
            map_kernels.max_pool_gradient, (columns, programs),
            Written.of(target, correction), target.pitch, target.height, target.width, choice,
            source.values, source.gradient, source.pitch, Reader.of(norm, source), noted,
            source.pixels, source.height, source.width, source.channels, tiles,
            EPS=norm.eps, **BLOCKS, GROUP=group(programs), num_warps=8,
        )  # fmt: skip
        return noted.gamma, noted.beta

    def average_pool(self, source: Maps, target: Maps) -> None:
        """Write means of 2x2 pixels of source into the first columns of target."""
        self._pool(source.values, source.height, source.width, target, source.channels, window=2)

    def average_pool_backward(self, source: Maps, target: Maps, correction: Correction) -> None:
        """Write source.gradient: a quarter of the target's completed one for each of 2x2 pixels."""
        assert source.gradient is not None
        written = Written.of(target, correction)
        complete(written, 0, target, source.gradient, source, source.channels, window=2)

    def mean_activation(self, source: Maps, norm: BatchNorm) -> Tensor:
        """The mean of ReLU(norm(source)) over each image, (N, C)."""
        means = source.values.new_empty(source.images, source.channels)
        launch(
            map_kernels.mean_activation, (source.images, _blocks(source.channels)),
            source.values, source.pitch, Reader.of(norm, source), means,
            source.height * source.width, source.channels,
            EPS=norm.eps, BLOCK_M=32, BLOCK_N=BLOCKS["BLOCK_N"],
        )  # fmt: skip
        return means

    def mean_activation_backward(
        self, source: Maps, norm: BatchNorm, gradient: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Write source.gradient, from that of the means (N, C). Returns the gradients of γ and β."""
        programs, tiles = shares(source.pixels)
        columns = _blocks(source.channels)
        noted = self._memory.noted(source, source.channels, columns, programs)
        launch(
            map_kernels.mean_activation_gradient, (columns, programs),
            gradient.contiguous(), source.values, source.gradient, source.pitch,
            Reader.of(norm, source), noted, source.pixels, source.height * source.width,
            source.channels, tiles, EPS=norm.eps, **BLOCKS, GROUP=group(programs),
        )  # fmt: skip
        return noted.gamma, noted.beta

    def corrected(self, source: Maps, channels: int, correction: Correction) -> Tensor:
        """The completed gradient of the first columns of source, (N, channels, H, W)."""
        size = source.images, source.height, source.width, channels
        gradient = torch.empty(size, dtype=source.values.dtype, device=source.values.device)
        complete(Written.of(source, correction), 0, source, gradient.flatten(0, 2), source, channels)
        return gradient.permute(0, 3, 1, 2)

    def _pool(
        self,
        rows: Tensor,
        height: int,
        width: int,
        target: Maps,
        channels: int,
        window: int,
        write: bool = True,
    ) -> None:
        programs, tiles = shares(target.pixels)
        columns = _blocks(target.pitch if write else channels)
        launch(
            map_kernels.pool, (columns, programs),
            rows, rows.shape[1], height, width,
            target.values if write else None, target.pitch,
            self._memory.measured(target, channels, columns, programs),
            target.pixels, target.height, target.width, channels, tiles,
            WINDOW=window, REAL=NUMBER[target.mean.dtype], **BLOCKS, GROUP=group(programs),
        )  # fmt: skip


def _blocks(channels: int) -> int:
    return triton.cdiv(channels, BLOCKS["BLOCK_N"])
