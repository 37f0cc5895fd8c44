"""How the kernels of convolutions are launched, and what all launches share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from densenet_cli.kernels import triton_convolution, triton_maps
from densenet_cli.kernels.engine import ConvolutionWork
from densenet_cli.kernels.maps import Maps, Norm

PIXELS = 128  # of a tile
PROGRAMS = 1024  # at most, that share the pixels: several for each multiprocessor of today's GPUs
Grid = tuple[int, ...] | Callable[[dict[str, int]], tuple[int, ...]]  # the latter by block sizes
NUMBER = {torch.bfloat16: tl.bfloat16, torch.float32: tl.float32, torch.float64: tl.float64}


def launch(kernel: Any, grid: Grid, *arguments: Any, **constants: Any) -> None:
    """Launch a kernel on the device of its first argument."""
    with torch.cuda.device_of(arguments[0]):
        kernel[grid](*arguments, **constants)


def shares(pixels: int, blocks: int = 1) -> tuple[int, int]:
    """How many programs share the pixels, for each of some blocks, and how many tiles each does."""
    tiles = triton.cdiv(triton.cdiv(pixels, PIXELS), max(1, PROGRAMS // blocks))
    return triton.cdiv(pixels, tiles * PIXELS), tiles


def room(like: Tensor, programs: int, channels: int) -> Tensor:
    """Room for two numbers a channel that each program finds."""
    return like.new_empty(2, programs, channels)


def finish_moments(moments: Tensor | None, target: Maps, column: int, tiles: int) -> None:
    """Mean and variance of the columns that were written, if they were measured."""
    if moments is None:
        return
    _, programs, channels = moments.shape
    launch(
        triton_maps.finish_moments, (triton.cdiv(channels, 16),),
        moments, target.mean[column:], target.variance[column:],
        programs, target.pixels, channels, tiles * PIXELS, BLOCK_M=64, BLOCK_N=16,
    )  # fmt: skip


def convolve(step: ConvolutionWork, norm: Norm) -> None:
    """Write columns of the target and measure them."""
    source, weight, target, column = step.source, step.weight, step.target, step.column
    outputs = len(weight)
    programs, tiles = shares(source.pixels)
    moments = room(norm.mean, programs, outputs) if target.measured else None
    block = max(16, min(256 // weight.element_size(), triton.next_power_of_2(outputs)))
    launch(
        triton_convolution.convolve, (triton.cdiv(outputs, block), programs),
        source.values, source.pitch, norm, _packed(weight, source),
        target.values[:, column:], target.pitch, moments,
        *_sizes(source, weight), tiles, step.dropout or None, step.seed, _kind(source, weight),
        **_constants(source, weight), BLOCK_M=PIXELS, BLOCK_N=block,
    )  # fmt: skip
    finish_moments(moments, target, column, tiles)


def input_gradient(
    gradient: Tensor, pitch: int, source: Maps, norm: Norm, weight: Tensor, accumulate: bool
) -> tuple[Tensor, Tensor]:
    """Write or add to source.gradient; the gradients of γ and β."""
    inputs = weight.shape[1]
    programs, tiles = shares(source.pixels)
    parts = room(norm.mean, programs, inputs)
    launch(
        triton_convolution.input_gradient,
        lambda block: (-(-inputs // block["BLOCK_K"]), programs),
        gradient, pitch, _packed(weight, source),
        source.values, source.gradient, source.pitch, norm, parts,
        *_sizes(source, weight), tiles, _kind(source, weight),
        **_constants(source, weight), ACCUMULATE=accumulate, BLOCK_M=PIXELS,
    )  # fmt: skip
    gamma, beta = parts.sum(1)
    return gamma, beta


def weight_gradient(gradient: Tensor, pitch: int, source: Maps, norm: Norm, weight: Tensor) -> Tensor:
    """The gradient of weight, from that of the columns that were written."""
    outputs, inputs, *size = weight.shape
    rows = outputs * size[0] * size[1]
    blocks = triton.cdiv(rows, 64) * triton.cdiv(inputs, 64)  # about as many as there will be
    programs, tiles = shares(source.pixels, blocks)
    parts = norm.mean.new_empty(programs, *weight.shape)
    launch(
        triton_convolution.weight_gradient,
        lambda block: (-(-rows // block["BLOCK_J"]), -(-inputs // block["BLOCK_K"]), programs),
        gradient, pitch, source.values, source.pitch, norm, parts,
        *_sizes(source, weight), tiles * PIXELS, _kind(source, weight),
        **_constants(source, weight),
    )  # fmt: skip
    return parts.sum(0)


def _wide(source: Maps, inputs: int) -> int:
    """How many columns kernels load of the first `inputs`: some more, which they do not use.

    A multiple of 16 makes loads aligned, and masks the same for neighbours: both can be vectors then.
    """
    return inputs if source.pitch % 16 else -(-inputs // 16) * 16


def _packed(weight: Tensor, source: Maps) -> Tensor:
    """The weight as the kernels read it: (taps·outputs, wide), in the number format of the maps."""
    outputs, inputs, *size = weight.shape
    packed = source.values.new_zeros(*size, outputs, _wide(source, inputs))
    packed[..., :inputs] = weight.permute(2, 3, 0, 1)
    return packed.flatten(0, 2)


def _sizes(source: Maps, weight: Tensor) -> tuple[int, ...]:
    inputs = weight.shape[1]
    return source.pixels, source.height, source.width, inputs, _wide(source, inputs)


def _kind(source: Maps, weight: Tensor) -> int:
    """What decides on block sizes, apart from the kernel's constants: how much there is to read."""
    return (source.pixels * weight.shape[1]).bit_length()


def _constants(source: Maps, weight: Tensor) -> dict[str, Any]:
    outputs, _, *size = weight.shape
    operand = NUMBER[source.values.dtype]
    if triton_convolution.IS_INTERPRETED and operand == tl.bfloat16:
        operand = tl.float32  # the interpreter multiplies the bits of bfloat16 as integers
    precision = "tf32" if torch.backends.cuda.matmul.allow_tf32 else "ieee"
    return {"OUTPUTS": outputs, "TAPS": size[0] * size[1], "PRECISION": precision, "OPERAND": operand}
