# ruff: noqa: N803, N806 -- capitals for constants of a kernel are Triton's custom
"""Batch norm, ReLU and convolution, 1x1 or 3x3, as matrix products.

Forward: rows of the left matrix are pixels, its columns are the input's channels, once for each tap
(pixel of the kernel; there are 1 or 9). It is never stored. A 1x1 convolution normalises its input
while it reads it; a 3x3 one reads each value for nine taps, so its input is normalised before.

Backward: column j = tap·PADDED + output is the gradient of that output at the pixel that the tap
reaches. So each value of the input is normalised once, and a small number of outputs still fills the
matrix units. The same tiles of input and gradient serve the gradients of the input and of the weight:
these are sums over columns and over pixels. A program of a 1x1 convolution keeps its part of the
weight's gradient in registers for all its pixels. For nine taps it would not fit; there a program does
one tile and stores the part of each tap at once.

PADDED is the number of outputs, rounded up to a multiple of 16. The packed weight is (taps·PADDED,
wide): the input's channels, then zeros, up to a multiple of 16. Of the input the first `readable`
columns are loaded: with a multiple of 16, loads are aligned and neighbours have equal masks, so that
vectors can be loaded.

Sums over pixels are computed by each program for its own pixels, then added up in a fixed order.
"""

import triton
import triton.language as tl

from densenet_cli.kernels.triton.last_program import finish_gradient, finish_moments
from densenet_cli.kernels.triton.tiles import (
    SIZES,
    add_gradient,
    add_moments,
    begin,
    completed,
    dropout_factor,
    in_image,
    load_tile,
    reader,
    relu,
    scale_and_shift,
    store_tile,
)

IS_INTERPRETED = not isinstance(load_tile, triton.JITFunction)


@triton.jit(do_not_specialize=SIZES, do_not_specialize_on_alignment=["target"])
def convolve(
    source, source_pitch, norm, weight, target, target_pitch, column, measured,
    pixels, height, width, inputs, wide, readable, TILES: tl.constexpr, probability, seed, draw,
    OUTPUTS: tl.constexpr, PADDED: tl.constexpr, TAPS: tl.constexpr, EPS: tl.constexpr,
    PRECISION: tl.constexpr, OPERAND: tl.constexpr, REAL: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP: tl.constexpr,
    OVERLAPS: tl.constexpr,
):  # fmt: skip
    """target (pixels, OUTPUTS) = dropout(conv(ReLU(norm(source)))); see `TritonEngine.convolve`.

    If norm is None, the source is already ReLU(norm(...)). Columns of the source from `inputs` to
    `readable` are zero.

    measured: see `finish_moments`; None if nothing is measured.

    Grid: blocks of outputs, programs that do TILES tiles of BLOCK_M pixels each.
    """
    begin(OVERLAPS)
    n, program = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N), tl.program_id(1)
    mean, squares = tl.zeros((BLOCK_N,), REAL), tl.zeros((BLOCK_N,), REAL)
    blocks = tl.cdiv(wide, BLOCK_K)
    for tile in range(TILES):
        pixel = (program * TILES + tile) * BLOCK_M + tl.arange(0, BLOCK_M)
        total = tl.zeros((BLOCK_M, BLOCK_N), REAL)
        for step in range(TAPS * blocks):
            tap = step // blocks
            k = (step - tap * blocks) * BLOCK_K + tl.arange(0, BLOCK_K)
            inside, near = pixel < pixels, pixel
            if TAPS == 9:
                down, right = tap // 3 - 1, tap % 3 - 1
                inside = in_image(pixel, pixels, height, width, down, right)
                near = pixel + down * width + right
            place = (tap * PADDED + n)[None, :] * wide + k[:, None]
            w = tl.load(weight + place, (n < PADDED)[None, :] & (k < wide)[:, None], 0.0)
            mask = inside[:, None] & (k < readable)[None, :]
            if norm is None:
                y = load_tile(source, source_pitch, near, k, mask, OPERAND)
            else:  # scale and shift are zero beyond the inputs
                x = load_tile(source, source_pitch, near, k, mask, REAL)
                scale, shift = scale_and_shift(norm, k, k < inputs, EPS)
                y = relu(x * scale[None, :] + shift[None, :]).to(w.dtype).to(OPERAND)
            total = tl.dot(y, w.to(OPERAND), total, input_precision=PRECISION, out_dtype=REAL)
        if probability is not None:
            total *= dropout_factor(seed, draw, pixel, n, OUTPUTS, probability)
        total = store_tile(target, target_pitch, pixel, pixels, n, OUTPUTS, total)
        mean, squares = add_moments(total, pixel < pixels, mean, squares, tile * BLOCK_M)
    if measured is not None:
        share = TILES * BLOCK_M
        finish_moments(mean, squares, measured, column, n, OUTPUTS, pixels, share, GROUP)


@triton.jit
def _gradient_tile(
    written, pitch, column, first, row, pixels, height, width, j,
    COLUMNS: tl.constexpr, PADDED: tl.constexpr, TAPS: tl.constexpr, REAL: tl.constexpr,
):  # fmt: skip
    """The columns j (J,) of the left matrix at pixels first + row (M,): (M, J), rounded as maps are.

    Args:
        written, column: maps from `column` on and their gradient.
        COLUMNS: of the maps; the others, up to PADDED, are taken as zero.
    """
    tap, output = j // PADDED, j % PADDED
    inside, near = (first + row < pixels)[:, None], row[:, None]
    if TAPS == 9:
        down, right = 1 - tap // 3, 1 - tap % 3
        inside = in_image((first + row)[:, None], pixels, height, width, down[None, :], right[None, :])
        near = row[:, None] + (down * width + right)[None, :]
    known = (tap < TAPS) & (output < COLUMNS)
    place = near * pitch + (column + output)[None, :]
    start = tl.cast(first, tl.int64) * pitch
    g = completed(written, start, place, column + output, known, inside & known[None, :], REAL)
    return g.to(written.gradient.dtype.element_ty)


@triton.jit
def _store_part(
    parts, total, j, k, inputs, OUTPUTS: tl.constexpr, PADDED: tl.constexpr, TAPS: tl.constexpr
):  # fmt: skip
    """Write a program's part of the weight's gradient, (K, J), into parts (inputs, taps, outputs)."""
    tap, output = j // PADDED, j % PADDED
    known = ((tap < TAPS) & (output < OUTPUTS))[None, :] & (k < inputs)[:, None]
    place = k[:, None] * (TAPS * OUTPUTS) + (tap * OUTPUTS + output)[None, :]
    tl.store(parts + place, total, known)


@triton.jit(do_not_specialize=SIZES, do_not_specialize_on_alignment=["loops"])
def gradients(
    written, written_pitch, column, weight, source, source_gradient, source_pitch, norm, noted, parts,
    pixels, height, width, inputs, wide, readable, loops,
    OUTPUTS: tl.constexpr, COLUMNS: tl.constexpr, UNIT: tl.constexpr, PADDED: tl.constexpr,
    TAPS: tl.constexpr, EPS: tl.constexpr, ACCUMULATE: tl.constexpr,
    PRECISION: tl.constexpr, OPERAND: tl.constexpr, REAL: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_J: tl.constexpr, BLOCK_K: tl.constexpr, GROUP: tl.constexpr,
    OVERLAPS: tl.constexpr,
):  # fmt: skip
    """source_gradient = or += scale·(gradient of norm's output); noted: the gradients of γ and β.

    parts (programs, inputs, taps, outputs): the gradient of the weight from each program's pixels; None
    if it is computed by `weight_gradient`. If all columns j are more than one block, each program must
    do one tile: then their parts are stored as they come.

    column: in units of UNIT columns, which are loaded at once. x is loaded twice; ".ca", the default,
    keeps Triton from taking the two loads for one, which would fill registers.

    Grid: blocks of inputs, programs that do `loops` tiles of BLOCK_M pixels each.
    """
    begin(OVERLAPS)
    k, program = tl.program_id(0) * BLOCK_K + tl.arange(0, BLOCK_K), tl.program_id(1)
    gamma, beta = tl.zeros((BLOCK_K,), REAL), tl.zeros((BLOCK_K,), REAL)
    ONE: tl.constexpr = TAPS * PADDED <= BLOCK_J
    total = tl.zeros((BLOCK_K, BLOCK_J), REAL)
    if parts is not None:
        parts += program.to(tl.int64) * (OUTPUTS * TAPS) * inputs
        scale, shift, mean = reader(norm, k, k < inputs, EPS)
    row = tl.arange(0, BLOCK_M)
    place = row[:, None] * source_pitch + k[None, :]
    for tile in range(loops):
        first = (program * loops + tile) * BLOCK_M
        start = tl.cast(first, tl.int64) * source_pitch
        mask = (first + row < pixels)[:, None] & (k < readable)[None, :]
        if parts is not None:
            x = tl.load(source + start + place, mask, 0.0, cache_modifier=".ca").to(REAL)
            y = relu(x * scale[None, :] + shift[None, :]).to(source.dtype.element_ty).to(OPERAND)
        dy = tl.zeros((BLOCK_M, BLOCK_K), REAL)
        for block in range(0, TAPS * PADDED, BLOCK_J):
            j = block + tl.arange(0, BLOCK_J)
            g = _gradient_tile(
                written, written_pitch, column * UNIT, first, row, pixels, height, width, j,
                COLUMNS, PADDED, TAPS, REAL,
            ).to(OPERAND)  # fmt: skip
            within = (j < TAPS * PADDED)[:, None] & (k < wide)[None, :]
            w = tl.load(weight + j[:, None] * wide + k[None, :], within, 0.0).to(OPERAND)
            dy = tl.dot(g, w, dy, input_precision=PRECISION, out_dtype=REAL)
            if parts is not None:
                total = tl.dot(tl.trans(y), g, total, input_precision=PRECISION, out_dtype=REAL)
                if not ONE:
                    _store_part(parts, total, j, k, inputs, OUTPUTS, PADDED, TAPS)
                    total = tl.zeros((BLOCK_K, BLOCK_J), REAL)
        if parts is None:
            scale, shift, mean = reader(norm, k, k < inputs, EPS)
        x = tl.load(source + start + place, mask, 0.0).to(REAL)
        target = source_gradient + start + place
        gamma, beta = add_gradient(dy, x, scale, shift, mean, target, mask, gamma, beta, ACCUMULATE)
    if parts is not None and ONE:
        _store_part(parts, total, tl.arange(0, BLOCK_J), k, inputs, OUTPUTS, PADDED, TAPS)
    finish_gradient(gamma, beta, noted, norm, k, inputs, pixels, EPS, GROUP)


@triton.jit(do_not_specialize=SIZES)
def weight_gradient(
    written, source, source_pitch, norm, parts,
    pixels, height, width, inputs, readable, share,
    OUTPUTS: tl.constexpr, PADDED: tl.constexpr, TAPS: tl.constexpr, EPS: tl.constexpr,
    PRECISION: tl.constexpr, OPERAND: tl.constexpr, REAL: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_J: tl.constexpr, BLOCK_K: tl.constexpr, OVERLAPS: tl.constexpr,
):  # fmt: skip
    """parts (programs, inputs, taps, outputs): the gradient of the weight from `share` pixels each.

    written: the completed gradient, (pixels, PADDED).

    Grid: blocks of columns j, blocks of inputs, programs.
    """
    begin(OVERLAPS)
    j = tl.program_id(0) * BLOCK_J + tl.arange(0, BLOCK_J)
    k = tl.program_id(1) * BLOCK_K + tl.arange(0, BLOCK_K)
    program = tl.program_id(2)
    scale, shift = scale_and_shift(norm, k, k < inputs, EPS)
    total = tl.zeros((BLOCK_K, BLOCK_J), REAL)
    row = tl.arange(0, BLOCK_M)
    for tile in range(0, share, BLOCK_M):
        first = program * share + tile
        g = _gradient_tile(
            written, PADDED, 0, first, row, pixels, height, width, j, PADDED, PADDED, TAPS, REAL
        )  # fmt: skip
        mask = (first + row < pixels)[:, None] & (k < readable)[None, :]
        x = load_tile(source, source_pitch, first + row, k, mask, REAL)
        y = relu(x * scale[None, :] + shift[None, :]).to(g.dtype).to(OPERAND)
        total = tl.dot(tl.trans(y), g.to(OPERAND), total, input_precision=PRECISION, out_dtype=REAL)
    parts += program.to(tl.int64) * (OUTPUTS * TAPS) * inputs
    _store_part(parts, total, j, k, inputs, OUTPUTS, PADDED, TAPS)
