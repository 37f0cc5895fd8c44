# ruff: noqa: N803 -- capitals for constants of a kernel are Triton's custom
"""Batch norm, ReLU and convolution, 1x1 or 3x3, as matrix products.

Forward: rows of the left matrix are pixels, its columns are the input's channels, once for each tap
(pixel of the kernel; there are 1 or 9). It is never stored. A 1x1 convolution normalises its input
while it reads it; a 3x3 one reads each value for nine taps, so its input is normalised before.

Backward: column j = tap·PADDED + output is the gradient of that output at the pixel that the tap
reaches. So each value of the input is normalised once, and a small number of outputs still fills the
matrix units.

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
    dropout_factor,
    in_image,
    load_tile,
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
def _gradient_tile(gradient, pixel, pixels, height, width, j, PADDED: tl.constexpr, TAPS: tl.constexpr):
    """The columns j (J,) of the left matrix at pixels (M,): (M, J)."""
    tap, output = j // PADDED, j % PADDED
    inside, place = (pixel < pixels)[:, None], output[None, :]
    if TAPS == 9:
        down, right = 1 - tap // 3, 1 - tap % 3
        inside = in_image(pixel[:, None], pixels, height, width, down[None, :], right[None, :])
        place += ((down * width + right) * PADDED)[None, :]
    rows = gradient + pixel.to(tl.int64)[:, None] * PADDED
    return tl.load(rows + place, inside & (tap < TAPS)[None, :], 0.0)


@triton.jit(do_not_specialize=SIZES)
def input_gradient(
    gradient, weight, source, source_gradient, source_pitch, norm, noted,
    pixels, height, width, inputs, wide, readable, TILES: tl.constexpr,
    PADDED: tl.constexpr, TAPS: tl.constexpr, EPS: tl.constexpr, ACCUMULATE: tl.constexpr,
    PRECISION: tl.constexpr, OPERAND: tl.constexpr, REAL: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_J: tl.constexpr, BLOCK_K: tl.constexpr, GROUP: tl.constexpr,
    OVERLAPS: tl.constexpr,
):  # fmt: skip
    """source_gradient = or += scale·(gradient of norm's output); noted: the gradients of γ and β.

    Grid: blocks of inputs, programs that do TILES tiles of BLOCK_M pixels each.
    """
    begin(OVERLAPS)
    k, program = tl.program_id(0) * BLOCK_K + tl.arange(0, BLOCK_K), tl.program_id(1)
    gamma, beta = tl.zeros((BLOCK_K,), REAL), tl.zeros((BLOCK_K,), REAL)
    for tile in range(TILES):
        pixel = (program * TILES + tile) * BLOCK_M + tl.arange(0, BLOCK_M)
        dy = tl.zeros((BLOCK_M, BLOCK_K), REAL)
        for first in range(0, TAPS * PADDED, BLOCK_J):
            j = first + tl.arange(0, BLOCK_J)
            g = _gradient_tile(gradient, pixel, pixels, height, width, j, PADDED, TAPS)
            mask = (j < TAPS * PADDED)[:, None] & (k < wide)[None, :]
            w = tl.load(weight + j[:, None] * wide + k[None, :], mask, 0.0)
            dy = tl.dot(g.to(OPERAND), w.to(OPERAND), dy, input_precision=PRECISION, out_dtype=REAL)
        gamma, beta = add_gradient(
            dy, source, source_gradient, source_pitch, pixel, pixels, k, inputs, readable, norm,
            gamma, beta, EPS, ACCUMULATE,
        )  # fmt: skip
    finish_gradient(gamma, beta, noted, norm, k, inputs, pixels, EPS, GROUP)


@triton.jit(do_not_specialize=SIZES)
def weight_gradient(
    gradient, source, source_pitch, norm, parts, output_stride, input_stride, tap_stride,
    pixels, height, width, inputs, readable, share,
    OUTPUTS: tl.constexpr, PADDED: tl.constexpr, TAPS: tl.constexpr, EPS: tl.constexpr,
    PRECISION: tl.constexpr, OPERAND: tl.constexpr, REAL: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_J: tl.constexpr, BLOCK_K: tl.constexpr, OVERLAPS: tl.constexpr,
):  # fmt: skip
    """parts (programs, weights): the gradient of the weight from `share` pixels each, laid out like it.

    Grid: blocks of columns j, blocks of inputs, programs.
    """
    begin(OVERLAPS)
    j = tl.program_id(0) * BLOCK_J + tl.arange(0, BLOCK_J)
    k = tl.program_id(1) * BLOCK_K + tl.arange(0, BLOCK_K)
    program = tl.program_id(2)
    scale, shift = scale_and_shift(norm, k, k < inputs, EPS)
    total = tl.zeros((BLOCK_K, BLOCK_J), REAL)
    for first in range(0, share, BLOCK_M):
        pixel = program * share + first + tl.arange(0, BLOCK_M)
        g = _gradient_tile(gradient, pixel, pixels, height, width, j, PADDED, TAPS)
        mask = (pixel < pixels)[:, None] & (k < readable)[None, :]
        x = load_tile(source, source_pitch, pixel, k, mask, REAL)
        y = relu(x * scale[None, :] + shift[None, :]).to(g.dtype).to(OPERAND)
        total = tl.dot(tl.trans(y), g.to(OPERAND), total, input_precision=PRECISION, out_dtype=REAL)
    tap, output = j // PADDED, j % PADDED
    place = (output * output_stride + tap * tap_stride)[None, :] + (k * input_stride)[:, None]
    known = ((tap < TAPS) & (output < OUTPUTS))[None, :] & (k < inputs)[:, None]
    part = parts + program.to(tl.int64) * (OUTPUTS * TAPS) * inputs
    tl.store(part + place, total, known)
