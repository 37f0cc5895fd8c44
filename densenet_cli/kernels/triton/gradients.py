"""Launches the backward pass of convolutions: the gradients of inputs, weights and batch norms.

For most convolutions of networks with a small growth rate one launch computes all of them: it reads and
normalises the input once for both products, and completes the gradient of the output while it reads it.
So weight gradients need no branch of their own in a recorded pass.

For others the weight's gradient is a launch of its own, after one that completes that of the output.
With more outputs the sums would not fit the registers: one launch for 121's 128 outputs spills 8-240
bytes. With dropout, or if a layer reads the maps that it writes, only the completing is separate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import triton
from torch import Tensor

from densenet_cli.kernels.engine import ConvolutionWork
from densenet_cli.kernels.triton import convolution_kernels, weight_kernels
from densenet_cli.kernels.triton.block_sizes import Blocks, is_merged
from densenet_cli.kernels.triton.launch import (
    Memory,
    Reader,
    Written,
    blocks_of,
    complete,
    constants,
    group,
    launch,
    padded,
    readable,
    shape,
    shares,
    sizes,
    unit,
)
from densenet_cli.kernels.triton.weights import strides, table

PARTS = 2**24  # numbers, 64 MiB: about what stays in the cache of a GPU until it is added up
ALIGNED = 64  # numbers: gradients and their parts begin at a multiple


def convolve_backward(
    steps: Sequence[ConvolutionWork], packed: Mapping[int, Tensor], memory: Memory
) -> list[Tensor]:
    """See `Engine.convolve_backward`.

    Args:
        packed: id of each weight -> the weight, see `weights.pack`.
    """
    gradients: list[Tensor] = []
    for batch in _batches(steps):
        weights = _WeightGradients(batch)
        for step in batch:
            gradients += reversed(_gradients(step, packed[id(step.weight)], weights, memory))
            if step.column == 0:
                step.target.gradient = None  # its only reader has used it
        weights.finish()
    return gradients[::-1]


class _Share(NamedTuple):
    """A launch whose programs share the pixels.

    Attributes:
        columns: programs that compute something for the same pixels.
        programs: for each of these columns.
        tiles: of pixels, for each program.
    """

    block: Blocks
    columns: int
    programs: int
    tiles: int


class _Plan(NamedTuple):
    """How a step's gradients are computed.

    Attributes:
        rest: the launch of `gradients`.
        weight: that of `weight_gradient`; None if `gradients` computes the weight's too.
    """

    rest: _Share
    weight: _Share | None

    @classmethod
    def of(cls, step: ConvolutionWork) -> _Plan:
        outputs, inputs, *size = step.weight.shape
        taps, pixels = size[0] * size[1], step.source.pixels
        if is_merged(padded(outputs), taps):
            block = blocks_of("gradients", step)
            columns = triton.cdiv(inputs, block.inputs)
            if taps == 1:
                return cls(_shared(block, columns, pixels), None)
            share = _Share(block, columns, *shares(pixels, block.pixels))
            if share.tiles == 1 and share.programs * step.weight.numel() <= PARTS:
                return cls(share, None)
        block = blocks_of("input_gradient", step)
        rest = _Share(block, triton.cdiv(inputs, block.inputs), *shares(pixels, block.pixels))
        block = blocks_of("weight_gradient", step)
        columns = triton.cdiv(taps * padded(outputs), block.columns) * triton.cdiv(inputs, block.inputs)
        return cls(rest, _shared(block, columns, pixels))

    @property
    def parts(self) -> int:
        """The programs that compute parts of a weight's gradient."""
        return (self.weight or self.rest).programs


def _shared(block: Blocks, columns: int, pixels: int) -> _Share:
    tiles = triton.cdiv(pixels, block.pixels)
    each = triton.cdiv(tiles, max(1, block.programs // columns))
    return _Share(block, columns, triton.cdiv(tiles, each), each)


class _WeightGradients:
    """The gradients of the weights of some convolutions, in one piece of memory.

    Args:
        steps: the convolutions.
    """

    def __init__(self, steps: Sequence[ConvolutionWork]) -> None:
        self.plans = {id(step): _Plan.of(step) for step in steps}
        self._begins: dict[int, tuple[int, int]] = {}
        numbers, parts = 0, 0
        for step in steps:
            self._begins[id(step)] = parts, numbers
            parts += _aligned(self.plans[id(step)].parts * step.weight.numel())
            numbers += _aligned(step.weight.numel())
        like = steps[0].weight
        self._parts, self._totals = like.new_empty(parts), like.new_empty(numbers)
        self._steps = steps

    def parts(self, step: ConvolutionWork) -> Tensor:
        """Where the launch of a step writes the parts of all its programs."""
        return self._parts[self._begins[id(step)][0] :]

    def total(self, step: ConvolutionWork) -> Tensor:
        """The gradient of a step's weight, which is valid after `finish`."""
        begin = self._begins[id(step)][1]
        return _like(step.weight, self._totals[begin : begin + step.weight.numel()])

    def finish(self) -> None:
        """Add up the parts of all programs."""
        rows = tuple(
            (
                *self._begins[id(step)], self.plans[id(step)].parts, step.weight.numel(),
                len(step.weight), step.weight[0, 0].numel(), *strides(self.total(step)),
            )
            for step in self._steps
        )  # fmt: skip
        most = max(step.weight.numel() for step in self._steps)
        launch(
            weight_kernels.add_up, (triton.cdiv(most, 64), len(rows)),
            table(self._parts.device, rows), self._parts, self._totals, BLOCK_M=32, BLOCK_N=64,
        )  # fmt: skip


def _gradients(
    step: ConvolutionWork, packed: Tensor, weights: _WeightGradients, memory: Memory
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of a step's weight, γ and β; adds to the source's gradient."""
    source, target, inputs = step.source, step.target, step.weight.shape[1]
    plan, share = weights.plans[id(step)], weights.plans[id(step)].rest
    written, pitch = Written.of(target, target.correction(0, target.channels)), target.pitch
    column, columns = step.column, len(step.weight)
    if step.dropout or plan.weight is not None or target is source:
        pitch = padded(columns)
        gradient = target.values.new_empty(target.pixels, pitch)
        complete(
            written, column, target, gradient, target, columns,
            dropout=step.dropout, seed=step.seed, draw=step.draw,
        )  # fmt: skip
        written, column, columns = Written(gradient), 0, pitch
    at_once = unit(column, columns)
    is_first = source.start_gradient()
    noted = memory.noted(source, inputs, share.columns, share.programs)
    launch(
        convolution_kernels.gradients, (share.columns, share.programs),
        written, pitch, column // at_once, packed,
        source.values, source.gradient, source.pitch, Reader.of(step.norm, source), noted,
        weights.parts(step) if plan.weight is None else None,
        *sizes(source, inputs), padded(inputs), readable(source, inputs), share.tiles,
        **constants(step), OUTPUTS=len(step.weight), COLUMNS=columns, UNIT=at_once,
        ACCUMULATE=not is_first, BLOCK_J=share.block.columns, **shape(share.block),
        GROUP=group(share.programs),
    )  # fmt: skip
    if plan.weight is not None:
        _weight_gradient(step, written, plan.weight, weights.parts(step))
    return weights.total(step), noted.gamma, noted.beta


def _weight_gradient(step: ConvolutionWork, written: Written, share: _Share, parts: Tensor) -> None:
    """Compute the parts of a weight's gradient.

    Args:
        written: the completed gradient of the step's columns, (pixels, padded outputs).
    """
    source, inputs, block = step.source, step.weight.shape[1], share.block
    blocks = triton.cdiv(inputs, block.inputs)
    launch(
        convolution_kernels.weight_gradient, (share.columns // blocks, blocks, share.programs),
        written, source.values, source.pitch, Reader.of(step.norm, source), parts,
        *sizes(source, inputs), readable(source, inputs), share.tiles * block.pixels,
        **constants(step), OUTPUTS=len(step.weight), BLOCK_J=block.columns, **shape(block),
    )  # fmt: skip


def _batches(steps: Sequence[ConvolutionWork]) -> Iterator[list[ConvolutionWork]]:
    """The steps, the last one first, in batches whose parts take little memory."""
    batch: list[ConvolutionWork] = []
    size = 0
    for step in reversed(steps):
        need = _Plan.of(step).parts * step.weight.numel()
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
