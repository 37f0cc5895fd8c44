"""Launches the kernels of convolutions, with the arguments that they need."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from densenet_cli.kernels.engine import ConvolutionWork
from densenet_cli.kernels.maps import BatchNorm, Maps
from densenet_cli.kernels.triton import convolution_kernels, map_kernels
from densenet_cli.kernels.triton.block_sizes import Blocks, blocks

PIXELS = 128  # in a tile of a kernel without matrix products
PROGRAMS = 1024  # at most, that share the pixels: several for each multiprocessor of a GPU
NUMBER = {torch.bfloat16: tl.bfloat16, torch.float32: tl.float32, torch.float64: tl.float64}


class Reader(NamedTuple):
    """A batch norm as the kernels read it; its ε is one of their constants."""

    mean: Tensor
    variance: Tensor
    gamma: Tensor
    beta: Tensor

    @classmethod
    def of(cls, norm: BatchNorm, source: Maps) -> Reader:
        """A batch norm that reads the first columns of source."""
        return cls(*source.statistics(norm), norm.weight, norm.bias)


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
    """Launch a kernel on the device of its first argument."""
    with torch.cuda.device_of(arguments[0]):
        kernel[grid](*arguments, **constants)


def shares(pixels: int, tile: int = PIXELS, most: int | None = None) -> tuple[int, int]:
    """The number of programs for each block of columns, and of tiles of pixels for each program."""
    tiles = triton.cdiv(triton.cdiv(pixels, tile), PROGRAMS if most is None else max(1, most))
    return triton.cdiv(pixels, tiles * tile), tiles


def room(like: Tensor, programs: int, channels: int) -> Tensor:
    """Memory for two numbers per channel from each program."""
    return like.new_empty(2, programs, channels)


def padded(channels: int) -> int:
    """A number of channels, rounded up to a multiple of 16, so that several can be loaded at once."""
    return -(-channels // 16) * 16


def finish_moments(moments: Tensor | None, target: Maps, column: int, share: int) -> None:
    """Mean and variance of the columns written, if measured, by `share` pixels per program."""
    if moments is None:
        return
    _, programs, channels = moments.shape
    launch(
        map_kernels.finish_moments, (triton.cdiv(channels, 8),),
        moments, target.mean[column:], target.variance[column:],
        programs, target.pixels, channels, share, **_rows(programs),
    )  # fmt: skip


def convolve_step(step: ConvolutionWork) -> None:
    """Write columns of the target, and measure them if target.measured."""
    source, weight, target, column = step.source, step.weight, step.target, step.column
    outputs, inputs = weight.shape[:2]
    block = _blocks("convolve", step)
    columns = triton.cdiv(outputs, block.columns)
    programs, tiles = shares(source.pixels, block.pixels, 4 * PROGRAMS)  # a second tile costs registers
    moments = room(target.mean, programs, outputs) if target.measured else None
    if weight[0, 0].numel() == 1:
        values, norm, readable = source.values, Reader.of(step.norm, source), _readable(source, inputs)
    else:
        values, norm, readable = _activated(step), None, padded(inputs)
    launch(
        convolution_kernels.convolve, (columns, programs),
        values, values.stride(0), norm, _packed(weight, source),
        target.values[:, column:], target.pitch, moments,
        *_sizes(source, inputs), padded(inputs), readable, tiles,
        step.dropout or None, step.seed, step.draw,
        OUTPUTS=outputs, **_constants(step), BLOCK_N=block.columns, **_shape(block),
    )  # fmt: skip
    finish_moments(moments, target, column, tiles * block.pixels)


def _activated(step: ConvolutionWork) -> Tensor:
    """ReLU(norm(source)), (pixels, padded inputs)."""
    source, channels = step.source, step.norm.num_features
    values = source.values.new_empty(source.pixels, padded(channels))
    launch(
        map_kernels.activate, (triton.cdiv(source.pixels, PIXELS), triton.cdiv(values.shape[1], 32)),
        source.values, source.pitch, Reader.of(step.norm, source), values, values.shape[1],
        source.pixels, channels, EPS=step.norm.eps, BLOCK_M=PIXELS, BLOCK_N=32,
    )  # fmt: skip
    return values


def input_gradient(step: ConvolutionWork, gradient: Tensor, accumulate: bool) -> tuple[Tensor, Tensor]:
    """Write source.gradient, or add to it. Returns the gradients of γ and β.

    Args:
        gradient: of the columns that the step has written, (pixels, padded outputs).
    """
    source, weight, norm = step.source, step.weight, Reader.of(step.norm, step.source)
    inputs = weight.shape[1]
    block = _blocks("input_gradient", step)
    columns = triton.cdiv(inputs, block.inputs)
    programs, tiles = shares(source.pixels, block.pixels, PROGRAMS // columns)
    parts = room(norm.mean, programs, inputs)
    launch(
        convolution_kernels.input_gradient, (columns, programs),
        gradient, _packed(weight, source),
        source.values, source.gradient, source.pitch, norm, parts,
        *_sizes(source, inputs), padded(inputs), _readable(source, inputs), tiles,
        **_constants(step), ACCUMULATE=accumulate, BLOCK_J=block.columns, **_shape(block),
    )  # fmt: skip
    return finish_gradient(parts, step.norm, source)


def finish_gradient(parts: Tensor, norm: BatchNorm, source: Maps) -> tuple[Tensor, Tensor]:
    """The gradients of γ and β from their parts; adds this reader's part to source.slope and offset."""
    _, programs, channels = parts.shape
    gamma, beta = parts.new_empty(2, channels)
    noted = (source.slope, source.offset) if source.measured else (None, None)
    launch(
        convolution_kernels.finish_gradient, (triton.cdiv(channels, 8),),
        parts, Reader.of(norm, source), gamma, beta, *noted, source.pixels, programs, channels,
        EPS=norm.eps, **_rows(programs),
    )  # fmt: skip
    return gamma, beta


def weight_gradient(step: ConvolutionWork, gradient: Tensor) -> Tensor:
    """The gradient of weight, from that of the columns that the step has written."""
    source, weight = step.source, step.weight
    outputs, inputs, *size = weight.shape
    taps, width = size[0] * size[1], gradient.shape[1]
    block = _blocks("weight_gradient", step)
    grid = triton.cdiv(taps * width, block.columns), triton.cdiv(inputs, block.inputs)
    tiles = triton.cdiv(source.pixels, block.pixels)
    share = triton.cdiv(tiles, max(1, block.programs // (grid[0] * grid[1]))) * block.pixels
    programs = triton.cdiv(source.pixels, share)
    total = torch.empty_like(weight)
    parts = total if programs == 1 else total.new_empty(programs, weight.numel())
    launch(
        convolution_kernels.weight_gradient, (*grid, programs),
        gradient, source.values, source.pitch, Reader.of(step.norm, source), parts, *_strides(total),
        *_sizes(source, inputs), _readable(source, inputs), share,
        OUTPUTS=outputs, **_constants(step), BLOCK_J=block.columns, **_shape(block),
    )  # fmt: skip
    if programs > 1:
        launch(
            convolution_kernels.add_up, (triton.cdiv(weight.numel(), 64),),
            parts, total, programs, weight.numel(), BLOCK_M=32, BLOCK_N=64,
        )  # fmt: skip
    return total


def _blocks(kernel: str, step: ConvolutionWork) -> Blocks:
    source, weight = step.source, step.weight
    number = source.values.element_size()
    return blocks(kernel, padded(len(weight)), weight[0, 0].numel(), source.pixels, number)


def _rows(programs: int) -> dict[str, int]:
    """Blocks that read the parts of all programs at once, or in a few steps if there are many."""
    return {"BLOCK_M": max(16, min(512, triton.next_power_of_2(programs))), "BLOCK_N": 8}


def _readable(source: Maps, inputs: int) -> int:
    """How many columns are loaded: `inputs`, or a few more, which are zero in the forward pass."""
    return inputs if source.pitch % 16 else padded(inputs)


def _packed(weight: Tensor, source: Maps) -> Tensor:
    """The weight as the kernels read it: (taps·padded outputs, wide), in the format of the maps."""
    outputs, inputs, *size = weight.shape
    rows, wide = size[0] * size[1] * padded(outputs), padded(inputs)
    packed = source.values.new_empty(rows, wide)
    launch(
        convolution_kernels.pack, (triton.cdiv(rows, 32), triton.cdiv(wide, 64)),
        weight, *_strides(weight), packed, inputs, wide,
        OUTPUTS=outputs, PADDED=padded(outputs), TAPS=size[0] * size[1], BLOCK_J=32, BLOCK_K=64,
    )  # fmt: skip
    return packed


def _strides(weight: Tensor) -> tuple[int, int, int]:
    """Strides of an output, an input and a tap; the rows of taps must be contiguous."""
    output, of_input, row, tap = weight.stride()
    assert weight.shape[2] == 1 or row == weight.shape[3] * tap
    return output, of_input, tap


def _sizes(source: Maps, inputs: int) -> tuple[int, ...]:
    return source.pixels, source.height, source.width, inputs


def _shape(block: Blocks) -> dict[str, int]:
    return {
        "BLOCK_M": block.pixels,
        "BLOCK_K": block.inputs,
        "num_warps": block.warps,
        "num_stages": block.stages,
    }


def _constants(step: ConvolutionWork) -> dict[str, Any]:
    weight = step.weight
    operand = NUMBER[step.source.values.dtype]
    if convolution_kernels.IS_INTERPRETED and operand == tl.bfloat16:
        operand = tl.float32  # Triton's interpreter multiplies the bits of bfloat16 as integers
    return {
        "PADDED": padded(len(weight)),
        "TAPS": weight[0, 0].numel(),
        "EPS": step.norm.eps,
        "PRECISION": "tf32" if torch.backends.cuda.matmul.allow_tf32 else "ieee",
        "OPERAND": operand,
        "REAL": NUMBER[step.norm.weight.dtype],
    }
