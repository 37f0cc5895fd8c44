# ruff: noqa: N803 -- capitals for constants of a kernel are Triton's custom
"""Kernels for the weights of many convolutions at once, which a table of numbers describes.

A table is a matrix of int64 on the device; each row belongs to one weight.
"""

import triton
import triton.language as tl

from densenet_cli.kernels.triton.tiles import begin


@triton.jit
def pack(
    table,
    packed,
    REAL: tl.constexpr,
    BLOCK_J: tl.constexpr,
    BLOCK_K: tl.constexpr,
    OVERLAPS: tl.constexpr,
):
    """Write weights as the kernels of convolutions read them, in their number format.

    Columns of the table: the weight's address, its strides of an output, an input and a tap; outputs,
    inputs, taps; where the packed weight begins. Grid: blocks of rows, blocks of inputs, weights.
    """
    begin(OVERLAPS)
    row = table + tl.program_id(2) * 8
    weight = tl.load(row).to(tl.pointer_type(REAL))
    output_stride, input_stride, tap_stride = tl.load(row + 1), tl.load(row + 2), tl.load(row + 3)
    outputs, inputs, taps = tl.load(row + 4), tl.load(row + 5), tl.load(row + 6)
    padded, wide = tl.cdiv(outputs, 16) * 16, tl.cdiv(inputs, 16) * 16
    if (tl.program_id(0) * BLOCK_J >= taps * padded) | (tl.program_id(1) * BLOCK_K >= wide):
        return  # the grid is as large as the largest weight
    j = tl.program_id(0) * BLOCK_J + tl.arange(0, BLOCK_J)
    k = tl.program_id(1) * BLOCK_K + tl.arange(0, BLOCK_K)
    tap, output = j // padded, j % padded
    place = (output * output_stride + tap * tap_stride)[:, None] + (k * input_stride)[None, :]
    known = ((tap < taps) & (output < outputs))[:, None] & (k < inputs)[None, :]
    values = tl.load(weight + place, known, 0.0).to(packed.dtype.element_ty)
    inside = (tap < taps)[:, None] & (k < wide)[None, :]
    tl.store(packed + tl.load(row + 7) + j[:, None] * wide + k[None, :], values, inside)


@triton.jit
def add_up(table, parts, totals, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, OVERLAPS: tl.constexpr):
    """Add up, for each weight, the parts of all programs in a fixed order.

    Columns of the table: where the weight's parts (programs, inputs, taps, outputs) begin, where its
    total (numbers,) begins; programs, numbers; outputs, taps; the total's strides of an output, an
    input and a tap. Grid: blocks of numbers, weights.
    """
    begin(OVERLAPS)
    row = table + tl.program_id(1) * 9
    programs, numbers = tl.load(row + 2), tl.load(row + 3)
    if tl.program_id(0) * BLOCK_N >= numbers:  # the grid is as wide as the largest weight
        return
    parts += tl.load(row)
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    known = n < numbers
    here = tl.zeros((BLOCK_M, BLOCK_N), parts.dtype.element_ty)
    for first in range(0, programs, BLOCK_M):
        part = first + tl.arange(0, BLOCK_M)
        mask = (part < programs)[:, None] & known[None, :]
        here += tl.load(parts + part[:, None] * numbers + n[None, :], mask, 0.0)
    outputs, taps = tl.load(row + 4).to(tl.int32), tl.load(row + 5).to(tl.int32)
    output, tap, k = n % outputs, n // outputs % taps, n // outputs // taps
    place = output * tl.load(row + 6) + k * tl.load(row + 7) + tap * tl.load(row + 8)
    tl.store(totals + tl.load(row + 1) + place, tl.sum(here, axis=0), known)
