"""Packs all weights of a pass at once."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
import triton
from torch import Tensor

from densenet_cli.kernels.triton import weight_kernels
from densenet_cli.kernels.triton.launch import NUMBER, launch, padded


def pack(weights: Sequence[Tensor], like: Tensor) -> list[Tensor]:
    """Each weight as (taps·padded outputs, padded inputs), in the number format of `like`."""
    rows, shapes, begin = [], [], 0
    for weight in weights:
        outputs, inputs, *size = weight.shape
        taps = size[0] * size[1]
        shapes.append((taps * padded(outputs), padded(inputs)))
        rows.append((weight.data_ptr(), *strides(weight), outputs, inputs, taps, begin))
        begin += shapes[-1][0] * shapes[-1][1]
    packed = like.new_empty(begin)
    most_rows, most_inputs = (max(lengths) for lengths in zip(*shapes, strict=True))
    launch(
        weight_kernels.pack, (triton.cdiv(most_rows, 32), triton.cdiv(most_inputs, 64), len(weights)),
        table(like.device, tuple(rows)), packed, REAL=NUMBER[weights[0].dtype], BLOCK_J=32, BLOCK_K=64,
    )  # fmt: skip
    parts = packed.split([height * width for height, width in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


@functools.cache
def table(device: torch.device, rows: tuple[tuple[int, ...], ...]) -> Tensor:
    """A table for the kernels, kept for good: recorded CUDA graphs read it. It takes some KiB."""
    return torch.tensor(rows, dtype=torch.int64).to(device)


def strides(weight: Tensor) -> tuple[int, int, int]:
    """Strides of an output, an input and a tap; the rows of taps must be contiguous."""
    output, of_input, row, tap = weight.stride()
    assert weight.shape[2] == 1 or row == weight.shape[3] * tap
    return output, of_input, tap
