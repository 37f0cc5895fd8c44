# ruff: noqa: N803, N806 -- capitals for constants of a kernel are Triton's custom
"""BN-ReLU-convolution, 1x1 or 3x3, on a GPU: a product of matrices whose left one is made on the way.

Forwards its rows are pixels and its columns the input's channels, once for each of the taps, 1 or 9.
Backwards it is the narrower side that is taken once a tap: column j = tap·outputs + output of the left
matrix is the gradient of that output at the pixel where the tap puts it. So every value of the input
is normalised once, for the input's gradient and for the weight's, and small numbers of outputs fill
the matrix units. The packed weight is (taps·outputs, wide): the inputs' channels, then zeros.

All sums over pixels are made of parts, one a program, that are added up in a fixed order.
"""

import torch
import triton
import triton.language as tl

from densenet_cli.kernels.triton_tiles import (
    add_gradient,
    add_moments,
    dropout_factor,
    in_image,
    load_tile,
    relu,
    scale_and_shift,
    store_pair,
    store_tile,
)

IS_INTERPRETED = not isinstance(load_tile, triton.JITFunction)


def _tuned(*configs: triton.Config, restore: str = ""):
    """Measure which block sizes are fastest when shapes of a new kind come.

    They decide the order of sums. So if torch is to be deterministic, the first ones are taken, which
    are small enough for any GPU.
    """

    def prune(configs, *_, **__):
        return configs[:1] if torch.are_deterministic_algorithms_enabled() else configs

    return triton.autotune(
        list(configs[:1] if IS_INTERPRETED else configs),
        key=["kind", "OUTPUTS", "TAPS"],
        restore_value=[restore] if restore else None,
        prune_configs_by={"early_config_prune": prune},
    )


def _config(warps: int, stages: int, **blocks: int) -> triton.Config:
    return triton.Config(blocks, num_warps=warps, num_stages=stages)


@_tuned(
    _config(4, 2, BLOCK_K=32),
    _config(4, 4, BLOCK_K=32),
    _config(8, 3, BLOCK_K=32),
    _config(8, 3, BLOCK_K=64),
)
@triton.jit(do_not_specialize=["seed", "kind"])
def convolve(
    source, source_pitch, norm, weight, target, target_pitch, moments,
    pixels, height, width, inputs, wide, tiles, chance, seed, kind,
    OUTPUTS: tl.constexpr, TAPS: tl.constexpr, PRECISION: tl.constexpr, OPERAND: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """target (pixels, OUTPUTS) = dropout(conv(ReLU(norm(source)))); see `TritonEngine.convolve`.

    Grid: blocks of outputs, programs that do `tiles` tiles of BLOCK_M pixels each.
    """
    n, program = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N), tl.program_id(1)
    REAL: tl.constexpr = norm.mean.dtype.element_ty
    mean, squares = tl.zeros((BLOCK_N,), REAL), tl.zeros((BLOCK_N,), REAL)
    blocks = tl.cdiv(wide, BLOCK_K)
    for tile in range(tiles):
        pixel = (program * tiles + tile) * BLOCK_M + tl.arange(0, BLOCK_M)
        total = tl.zeros((BLOCK_M, BLOCK_N), REAL)
        for step in range(TAPS * blocks):
            tap = step // blocks
            k = (step - tap * blocks) * BLOCK_K + tl.arange(0, BLOCK_K)
            inside, near = pixel < pixels, pixel
            if TAPS == 9:
                down, right = tap // 3 - 1, tap % 3 - 1
                inside = in_image(pixel, pixels, height, width, down, right)
                near = pixel + down * width + right
            # Columns from `inputs` to `wide` are read, for the sake of aligned masks, but not used.
            x = load_tile(source, source_pitch, near, k, inside[:, None] & (k < wide)[None, :], REAL)
            scale, shift = scale_and_shift(norm, k, k < inputs)
            y = relu(x * scale[None, :] + shift[None, :])
            y = tl.where(inside[:, None] & (k < inputs)[None, :], y, 0.0)
            place = (tap * OUTPUTS + n)[None, :] * wide + k[:, None]
            w = tl.load(weight + place, (n < OUTPUTS)[None, :] & (k < wide)[:, None], 0.0)
            y = y.to(w.dtype).to(OPERAND)
            total = tl.dot(y, w.to(OPERAND), total, input_precision=PRECISION, out_dtype=REAL)
        if chance is not None:
            total *= dropout_factor(seed, pixel, n, OUTPUTS, chance)
        total = store_tile(target, target_pitch, pixel, pixels, n, OUTPUTS, total)
        mean, squares = add_moments(total, pixel < pixels, mean, squares, tile * BLOCK_M)
    if moments is not None:
        store_pair(moments, program, tl.num_programs(1), n, OUTPUTS, mean, squares)


@triton.jit
def _gradient_tile(
    gradient, pitch, pixel, pixels, height, width, j, OUTPUTS: tl.constexpr, TAPS: tl.constexpr
):
    """Of some pixels (M,), the columns j (J,) of the left matrix: (M, J)."""
    tap = j // OUTPUTS
    inside, place = (pixel < pixels)[:, None], j
    if TAPS == 9:
        down, right = 1 - tap // 3, 1 - tap % 3
        inside = in_image(pixel[:, None], pixels, height, width, down[None, :], right[None, :])
        place = (down * width + right) * pitch + j % OUTPUTS
    rows = gradient + pixel.to(tl.int64)[:, None] * pitch
    return tl.load(rows + place[None, :], inside & (tap < TAPS)[None, :], 0.0)


@_tuned(
    _config(4, 2, BLOCK_J=32, BLOCK_K=32),
    _config(4, 3, BLOCK_J=64, BLOCK_K=32),
    _config(8, 3, BLOCK_J=32, BLOCK_K=64),
    _config(8, 2, BLOCK_J=64, BLOCK_K=64),
    restore="source_gradient",
)
@triton.jit(do_not_specialize=["kind"])
def input_gradient(
    gradient, gradient_pitch, weight, source, source_gradient, source_pitch, norm, parts,
    pixels, height, width, inputs, wide, tiles, kind,
    OUTPUTS: tl.constexpr, TAPS: tl.constexpr, ACCUMULATE: tl.constexpr,
    PRECISION: tl.constexpr, OPERAND: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_J: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """source_gradient (+)= scale·(gradient of norm's output); parts: those of γ and β.

    Grid: blocks of inputs, programs that do `tiles` tiles of BLOCK_M pixels each.
    """
    k, program = tl.program_id(0) * BLOCK_K + tl.arange(0, BLOCK_K), tl.program_id(1)
    REAL: tl.constexpr = norm.mean.dtype.element_ty
    gamma, beta = tl.zeros((BLOCK_K,), REAL), tl.zeros((BLOCK_K,), REAL)
    for tile in range(tiles):
        pixel = (program * tiles + tile) * BLOCK_M + tl.arange(0, BLOCK_M)
        dy = tl.zeros((BLOCK_M, BLOCK_K), REAL)
        for first in range(0, TAPS * OUTPUTS, BLOCK_J):
            j = first + tl.arange(0, BLOCK_J)
            g = _gradient_tile(gradient, gradient_pitch, pixel, pixels, height, width, j, OUTPUTS, TAPS)
            mask = (j < TAPS * OUTPUTS)[:, None] & (k < wide)[None, :]
            w = tl.load(weight + j[:, None] * wide + k[None, :], mask, 0.0)
            dy = tl.dot(g.to(OPERAND), w.to(OPERAND), dy, input_precision=PRECISION, out_dtype=REAL)
        gamma, beta = add_gradient(
            dy, source, source_gradient, source_pitch, pixel, pixels, k, inputs, wide, norm,
            gamma, beta, ACCUMULATE,
        )  # fmt: skip
    store_pair(parts, program, tl.num_programs(1), k, inputs, gamma, beta)


@_tuned(
    _config(4, 2, BLOCK_M=32, BLOCK_J=64, BLOCK_K=32),
    _config(4, 3, BLOCK_M=32, BLOCK_J=64, BLOCK_K=64),
    _config(4, 3, BLOCK_M=64, BLOCK_J=64, BLOCK_K=64),
    _config(8, 3, BLOCK_M=64, BLOCK_J=128, BLOCK_K=64),
)
@triton.jit(do_not_specialize=["kind"])
def weight_gradient(
    gradient, gradient_pitch, source, source_pitch, norm, parts,
    pixels, height, width, inputs, wide, share, kind,
    OUTPUTS: tl.constexpr, TAPS: tl.constexpr, PRECISION: tl.constexpr, OPERAND: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_J: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """parts (programs, OUTPUTS, inputs, TAPS): the weight's gradient by `share` pixels each.

    Grid: blocks of columns j, blocks of inputs, programs.
    """
    j, program = tl.program_id(0) * BLOCK_J + tl.arange(0, BLOCK_J), tl.program_id(2)
    k = tl.program_id(1) * BLOCK_K + tl.arange(0, BLOCK_K)
    REAL: tl.constexpr = norm.mean.dtype.element_ty
    scale, shift = scale_and_shift(norm, k, k < inputs)
    total = tl.zeros((BLOCK_K, BLOCK_J), REAL)
    for first in range(program * share, min((program + 1) * share, pixels), BLOCK_M):
        pixel = first + tl.arange(0, BLOCK_M)
        g = _gradient_tile(gradient, gradient_pitch, pixel, pixels, height, width, j, OUTPUTS, TAPS)
        mask = (pixel < pixels)[:, None] & (k < wide)[None, :]
        x = load_tile(source, source_pitch, pixel, k, mask, REAL)
        y = tl.where((k < inputs)[None, :], relu(x * scale[None, :] + shift[None, :]), 0.0)
        y = y.to(g.dtype).to(OPERAND)
        total = tl.dot(tl.trans(y), g.to(OPERAND), total, input_precision=PRECISION, out_dtype=REAL)
    tap, output = j // OUTPUTS, j % OUTPUTS
    place = (output[None, :] * inputs + k[:, None]) * TAPS + tap[None, :]
    part = parts + program.to(tl.int64) * (OUTPUTS * TAPS) * inputs
    tl.store(part + place, total, (tap < TAPS)[None, :] & (k < inputs)[:, None])
