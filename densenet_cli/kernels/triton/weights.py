"""Packs all weights of a pass at once, and adds up the parts of many weight gradients at once."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import triton
from torch import Tensor

from densenet_cli.kernels.engine import ConvolutionWork
from densenet_cli.kernels.triton import convolution_kernels, weight_kernels
from densenet_cli.kernels.triton.block_sizes import Blocks
from densenet_cli.kernels.triton.launch import (
    NUMBER,
    Reader,
    blocks_of,
    constants,
    launch,
    padded,
    readable,
    shape,
    sizes,
)

PARTS = 2**24  # numbers, 64 MiB: about what stays in the cache of a GPU until it is added up
ALIGNED = 64  # numbers: gradients and their parts begin at a multiple


def pack(weights: Sequence[Tensor], like: Tensor) -> list[Tensor]:
    """Each weight as (taps·padded outputs, padded inputs), in the number format of `like`."""
    rows, shapes, begin = [], [], 0
    for weight in weights:
        outputs, inputs, *size = weight.shape
        taps = size[0] * size[1]
        shapes.append((taps * padded(outputs), padded(inputs)))
        rows.append((weight.data_ptr(), *_strides(weight), outputs, inputs, taps, begin))
        begin += shapes[-1][0] * shapes[-1][1]
    packed = like.new_empty(begin)
    most_rows, most_inputs = (max(lengths) for lengths in zip(*shapes, strict=True))
    launch(
        weight_kernels.pack, (triton.cdiv(most_rows, 32), triton.cdiv(most_inputs, 64), len(weights)),
        _table(like.device, tuple(rows)), packed, REAL=NUMBER[weights[0].dtype], BLOCK_J=32, BLOCK_K=64,
    )  # fmt: skip
    parts = packed.split([height * width for height, width in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


@functools.cache
def _table(device: torch.device, rows: tuple[tuple[int, ...], ...]) -> Tensor:
    """A table for the kernels, kept for good: recorded CUDA graphs read it. It takes some KiB."""
    return torch.tensor(rows, dtype=torch.int64).to(device)


def _strides(weight: Tensor) -> tuple[int, int, int]:
    """Strides of an output, an input and a tap; the rows of taps must be contiguous."""
    output, of_input, row, tap = weight.stride()
    assert weight.shape[2] == 1 or row == weight.shape[3] * tap
    return output, of_input, tap


class _Share(NamedTuple):
    """How a step's weight gradient is computed: each program adds up `pixels` pixels."""

    block: Blocks
    grid: tuple[int, int]
    pixels: int
    programs: int

    @classmethod
    def of(cls, step: ConvolutionWork) -> _Share:
        outputs, inputs, *size = step.weight.shape
        columns = size[0] * size[1] * padded(outputs)
        block = blocks_of("weight_gradient", step)
        grid = triton.cdiv(columns, block.columns), triton.cdiv(inputs, block.inputs)
        tiles = triton.cdiv(step.source.pixels, block.pixels)
        share = triton.cdiv(tiles, max(1, block.programs // (grid[0] * grid[1]))) * block.pixels
        return cls(block, grid, share, triton.cdiv(step.source.pixels, share))


class WeightGradients:
    """The gradients of the weights of some convolutions, in one piece of memory.

    Args:
        steps: the convolutions.
    """

    def __init__(self, steps: Sequence[ConvolutionWork]) -> None:
        self._shares = {id(step): _Share.of(step) for step in steps}
        self._rows: dict[int, tuple[int, int, int, int]] = {}  # of the table of `add_up`
        self._most, numbers, parts = 0, 0, 0
        for step in steps:
            count, programs = step.weight.numel(), self._shares[id(step)].programs
            self._rows[id(step)] = parts, numbers, programs, count
            self._most = max(self._most, count)
            parts, numbers = parts + _aligned(programs * count), numbers + _aligned(count)
        like = steps[0].weight
        self._parts, self._totals = like.new_empty(parts), like.new_empty(numbers)

    def add(self, step: ConvolutionWork, gradient: Tensor) -> Tensor:
        """Memory for the gradient of a step's weight, which is valid after `finish`.

        Args:
            gradient: of the columns that the step has written, (pixels, padded outputs).
        """
        source, weight = step.source, step.weight
        outputs, inputs = weight.shape[:2]
        begin, total, _, count = self._rows[id(step)]
        share = self._shares[id(step)]
        placed = _like(weight, self._totals[total : total + count])
        launch(
            convolution_kernels.weight_gradient, (*share.grid, share.programs),
            gradient, source.values, source.pitch, Reader.of(step.norm, source),
            self._parts[begin:], *_strides(placed),
            *sizes(source, inputs), readable(source, inputs), share.pixels,
            OUTPUTS=outputs, **constants(step), BLOCK_J=share.block.columns, **shape(share.block),
        )  # fmt: skip
        return placed

    def finish(self) -> None:
        """Add up the parts of all programs."""
        rows = tuple(self._rows.values())
        launch(
            weight_kernels.add_up, (triton.cdiv(self._most, 64), len(rows)),
            _table(self._parts.device, rows), self._parts, self._totals, BLOCK_M=32, BLOCK_N=64,
        )  # fmt: skip


def batches(steps: Sequence[ConvolutionWork]) -> Iterator[list[ConvolutionWork]]:
    """The steps, the last one first, in batches whose parts take little memory."""
    batch: list[ConvolutionWork] = []
    size = 0
    for step in reversed(steps):
        need = _Share.of(step).programs * step.weight.numel()
        if batch and size + need > PARTS:
            yield batch
            batch, size = [], 0
        batch.append(step)
        size += need
    yield batch


def _aligned(numbers: int) -> int:
    return triton.cdiv(numbers, ALIGNED) * ALIGNED


def _like(weight: Tensor, numbers: Tensor) -> Tensor:
    """Numbers in the shape and, if it is a usual one, in the memory format of a weight."""
    if weight.is_contiguous():
        return numbers.view(weight.shape)
    outputs, inputs, *size = weight.shape
    return numbers.view(outputs, *size, inputs).permute(0, 3, 1, 2)
