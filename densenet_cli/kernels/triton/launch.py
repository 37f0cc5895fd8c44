"""Launches kernels, with the arguments and the memory that they need; convolutions forward."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from densenet_cli.kernels import tensor_float
from densenet_cli.kernels.engine import ConvolutionWork, Correction
from densenet_cli.kernels.maps import BatchNorm, Maps
from densenet_cli.kernels.triton import convolution_kernels, map_kernels
from densenet_cli.kernels.triton.block_sizes import Blocks, blocks

PIXELS, COLUMNS = 128, 32  # of a tile of a kernel without matrix products
PROGRAMS = 4096  # at most, that share the pixels; a second tile for each costs many registers
COUNTERS = 2**16  # zeros allocated at once: enough for all launches of most networks
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


class Written(NamedTuple):
    """The gradient of maps, and what completes it, if anything; see `Maps.correction`."""

    gradient: Tensor
    maps: Tensor | None = None
    mean: Tensor | None = None
    slope: Tensor | None = None
    offset: Tensor | None = None

    @classmethod
    def of(cls, maps: Maps, correction: Correction) -> Written:
        """That of all columns of maps.

        Args:
            correction: of the first columns, as many as are used.
        """
        assert maps.gradient is not None
        return cls(maps.gradient, *((maps.values, maps.mean, *correction) if correction else ()))


class Measured(NamedTuple):
    """Where a launch stores moments; see `last_program.finish_moments`."""

    parts: Tensor
    counters: Tensor
    mean: Tensor
    variance: Tensor


class Noted(NamedTuple):
    """Where a launch stores gradients of γ and β; see `last_program.finish_gradient`."""

    parts: Tensor
    counters: Tensor
    gamma: Tensor
    beta: Tensor
    slope: Tensor | None
    offset: Tensor | None


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
    """Launch a kernel on the device of its first tensor."""
    first = next(argument for argument in arguments if isinstance(argument, Tensor))
    with torch.cuda.device_of(first):
        kernel[grid](*arguments, **adapted(constants, capability(first.device)))


@functools.cache
def capability(device: torch.device) -> tuple[int, int] | None:
    """An NVIDIA GPU's compute capability, such as (9, 0); None for another device."""
    is_nvidia = device.type == "cuda" and torch.version.hip is None
    return torch.cuda.get_device_capability(device) if is_nvidia else None


def adapted(constants: dict[str, Any], capability: tuple[int, int] | None) -> dict[str, Any]:
    """The constants of a launch as a GPU needs them.

    From Hopper on, kernels are launched before the one before has ended: NVIDIA's programmatic
    dependent launch. It hides what it takes to start programs, and needs that every kernel waits for
    the one before; see `tiles.begin`. Limits of registers hold from Hopper on: products take more
    registers of older GPUs.
    """
    if capability is not None and capability >= (9, 0):
        return {**constants, "OVERLAPS": True, "launch_pdl": True}
    return {**constants, "OVERLAPS": False, "maxnreg": None}


def shares(pixels: int, tile: int = PIXELS) -> tuple[int, int]:
    """The number of programs for each block of columns, and of tiles of pixels for each program."""
    tiles = triton.cdiv(triton.cdiv(pixels, tile), PROGRAMS)
    return triton.cdiv(pixels, tiles * tile), tiles


def group(programs: int) -> int:
    """The size of a group, so that neither the programs of one nor the groups are more."""
    return 32 if programs <= 32 * 32 else 64


class Memory:
    """What launches of one pass need to add up what their programs have computed."""

    def __init__(self, like: Tensor) -> None:
        self._zeros = like.new_empty(0, dtype=torch.int32)

    def measured(self, target: Maps, channels: int, columns: int, programs: int) -> Measured | None:
        """For a launch that writes channels of target; None if these are not measured.

        Args:
            columns, programs: its grid.
        """
        if not target.measured:
            return None
        return Measured(
            *self._of(target.mean, channels, columns, programs), target.mean, target.variance
        )

    def noted(self, source: Maps, channels: int, columns: int, programs: int) -> Noted:
        """For a launch that computes the gradients of γ and β of a batch norm that reads source."""
        memory = self._of(source.mean, channels, columns, programs)
        gamma, beta = source.mean.new_empty(2, padded(channels))[:, :channels]
        slope, offset = (source.slope, source.offset) if source.measured else (None, None)
        return Noted(*memory, gamma, beta, slope, offset)

    def _of(self, like: Tensor, channels: int, columns: int, programs: int) -> tuple[Tensor, Tensor]:
        groups = triton.cdiv(programs, group(programs))
        return like.new_empty(2, programs + groups, channels), self._counters(columns * (groups + 1))

    def _counters(self, number: int) -> Tensor:
        if len(self._zeros) < number:
            self._zeros = self._zeros.new_zeros(max(number, COUNTERS))
        taken, self._zeros = self._zeros[:number], self._zeros[triton.cdiv(number, 4) * 4 :]
        return taken


def padded(channels: int) -> int:
    """A number of channels, rounded up to a multiple of 16, so that several can be loaded at once."""
    return -(-channels // 16) * 16


def convolve_step(step: ConvolutionWork, packed: Tensor, memory: Memory) -> None:
    """Write columns of the target, and measure them if target.measured.

    Args:
        packed: the weight, see `weights.pack`.
    """
    source, weight, target, column = step.source, step.weight, step.target, step.column
    outputs, inputs = weight.shape[:2]
    block = blocks_of("convolve", step)
    columns = triton.cdiv(outputs, block.columns)
    programs, tiles = shares(source.pixels, block.pixels)
    if weight[0, 0].numel() == 1:
        values, norm, loaded = source.values, Reader.of(step.norm, source), readable(source, inputs)
    else:
        values, norm, loaded = _activated(step), None, padded(inputs)
    launch(
        convolution_kernels.convolve, (columns, programs),
        values, values.stride(0), norm, packed,
        target.values[:, column:], target.pitch, column,
        memory.measured(target, outputs, columns, programs),
        *sizes(source, inputs), padded(inputs), loaded, tiles,
        step.dropout or None, step.seed, step.draw,
        OUTPUTS=outputs, **constants(step), BLOCK_N=block.columns, **shape(block),
        GROUP=group(programs),
    )  # fmt: skip


def _activated(step: ConvolutionWork) -> Tensor:
    """ReLU(norm(source)), (pixels, padded inputs)."""
    source, channels = step.source, step.norm.num_features
    values = source.values.new_empty(source.pixels, padded(channels))
    launch(
        map_kernels.activate,
        (triton.cdiv(source.pixels, PIXELS), triton.cdiv(values.shape[1], COLUMNS)),
        source.values, source.pitch, Reader.of(step.norm, source), values, values.shape[1],
        source.pixels, channels, EPS=step.norm.eps, BLOCK_M=PIXELS, BLOCK_N=COLUMNS,
    )  # fmt: skip
    return values


def complete(
    written: Written, column: int, source: Maps, target: Tensor, size: Maps, channels: int,
    window: int = 1, dropout: float = 0.0, seed: Tensor | None = None, draw: int = 0,
) -> None:  # fmt: skip
    """Write the completed gradient of columns of source into target, which has the pixels of `size`.

    Args:
        written: the source's gradient, and what completes it.
        channels: columns of source, from `column` on. Others of target become zero.
        window: so many pixels in each direction get an equal share of each pixel's gradient.
        dropout, seed, draw: see `ConvolutionWork`.
    """
    at_once = unit(column, channels)
    launch(
        map_kernels.complete,
        (triton.cdiv(size.pixels, PIXELS), triton.cdiv(target.stride(0), COLUMNS)),
        written, source.pitch, column // at_once, source.height, source.width,
        target, target.stride(0), size.height, size.width, size.pixels, channels // at_once,
        dropout or None, seed, draw, UNIT=at_once,
        WINDOW=window, REAL=NUMBER[source.mean.dtype], BLOCK_M=PIXELS, BLOCK_N=COLUMNS,
    )  # fmt: skip


def unit(column: int, channels: int) -> int:
    """How many columns from `column` on can be loaded at once, at most 8."""
    return math.gcd(column, channels, 8)


def blocks_of(kernel: str, step: ConvolutionWork) -> Blocks:
    """The block sizes for a step's launch of a kernel."""
    source, weight = step.source, step.weight
    number = source.values.element_size()
    return blocks(kernel, padded(len(weight)), weight[0, 0].numel(), source.pixels, number)


def readable(source: Maps, inputs: int) -> int:
    """How many columns are loaded: `inputs`, or a few more, which are zero in the forward pass."""
    return inputs if source.pitch % 16 else padded(inputs)


def sizes(source: Maps, inputs: int) -> tuple[int, ...]:
    """Arguments of the kernels of convolutions."""
    return source.pixels, source.height, source.width, inputs


def shape(block: Blocks) -> dict[str, int | None]:
    """Block sizes as constants of the kernels of convolutions."""
    return {
        "BLOCK_M": block.pixels,
        "BLOCK_K": block.inputs,
        "num_warps": block.warps,
        "num_stages": block.stages,
        "maxnreg": block.registers,
    }


def constants(step: ConvolutionWork) -> dict[str, Any]:
    """Constants of the kernels of convolutions, but for block sizes."""
    weight = step.weight
    operand = NUMBER[step.source.values.dtype]
    if convolution_kernels.IS_INTERPRETED and operand == tl.bfloat16:
        operand = tl.float32  # Triton's interpreter multiplies the bits of bfloat16 as integers
    return {
        "PADDED": padded(len(weight)),
        "TAPS": weight[0, 0].numel(),
        "EPS": step.norm.eps,
        "PRECISION": "tf32" if operand == tl.float32 and tensor_float.is_allowed() else "ieee",
        "OPERAND": operand,
        "REAL": NUMBER[step.norm.weight.dtype],
    }
