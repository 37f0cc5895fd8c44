# ruff: noqa: N803, N806 -- capitals for constants of a kernel are Triton's custom
"""Kernels without matrix products: copies, pooling, means, statistics, and their backward passes."""

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
    load_tile,
    reader,
    relu,
    scale_and_shift,
    store_tile,
)


@triton.jit(do_not_specialize=SIZES)
def pool(
    source, source_pitch, source_height, source_width, target, target_pitch, measured,
    pixels, height, width, channels, tiles,
    WINDOW: tl.constexpr, REAL: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, GROUP: tl.constexpr, OVERLAPS: tl.constexpr,
):  # fmt: skip
    """target = the mean of WINDOW x WINDOW pixels of source; if it is None, only moments are measured.

    Columns of target beyond the last channel become zero.

    Grid: blocks of its columns, programs that do `tiles` tiles of BLOCK_M of its pixels each.
    """
    begin(OVERLAPS)
    n, program = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N), tl.program_id(1)
    mean, squares = tl.zeros((BLOCK_N,), REAL), tl.zeros((BLOCK_N,), REAL)
    for tile in range(tiles):
        pixel = (program * tiles + tile) * BLOCK_M + tl.arange(0, BLOCK_M)
        line = pixel // width
        row = line // height * source_height + line % height * WINDOW
        mask = (pixel < pixels)[:, None] & (n < channels)[None, :]
        total = tl.zeros((BLOCK_M, BLOCK_N), REAL)
        for place in tl.static_range(WINDOW * WINDOW):
            near = (row + place // WINDOW) * source_width + pixel % width * WINDOW + place % WINDOW
            total += load_tile(source, source_pitch, near, n, mask, REAL)
        total /= WINDOW * WINDOW
        if target is not None:
            total = store_tile(target, target_pitch, pixel, pixels, n, target_pitch, total)
        mean, squares = add_moments(total, pixel < pixels, mean, squares, tile * BLOCK_M)
    if measured is not None:
        finish_moments(mean, squares, measured, 0, n, channels, pixels, tiles * BLOCK_M, GROUP)


@triton.jit(do_not_specialize=SIZES)
def activate(
    source, source_pitch, norm, target, target_pitch, pixels, channels,
    EPS: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, OVERLAPS: tl.constexpr,
):  # fmt: skip
    """target = ReLU(norm(source)). Columns of target beyond the last channel become zero.

    Grid: blocks of pixels, of columns of target.
    """
    begin(OVERLAPS)
    pixel = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    REAL: tl.constexpr = norm.mean.dtype.element_ty
    scale, shift = scale_and_shift(norm, n, n < channels, EPS)
    x = load_tile(
        source, source_pitch, pixel, n, (pixel < pixels)[:, None] & (n < channels)[None, :], REAL
    )
    y = relu(x * scale[None, :] + shift[None, :])
    store_tile(target, target_pitch, pixel, pixels, n, target_pitch, y)


@triton.jit(do_not_specialize=SIZES)
def complete(
    written, pitch, column, height, width,
    target, target_pitch, target_height, target_width, pixels, channels, probability, seed, draw,
    UNIT: tl.constexpr, WINDOW: tl.constexpr, REAL: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, OVERLAPS: tl.constexpr,
):  # fmt: skip
    """target = dropout(gradient + slope·(maps - mean) + offset) / WINDOW², at WINDOW x WINDOW pixels.

    The gradient is that of `channels` columns of maps, from `column` on; both are counted in units of
    UNIT columns, which are loaded at once. Columns of target beyond the last channel become zero.

    Grid: blocks of its pixels, of its columns.
    """
    begin(OVERLAPS)
    column *= UNIT
    channels *= UNIT
    pixel = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    pooled, inside = pixel, pixel < pixels
    if WINDOW > 1:
        line = pixel // target_width
        row, across = line % target_height // WINDOW, pixel % target_width // WINDOW
        pooled = (line // target_height * height + row) * width + across
        inside &= (row < height) & (across < width)
    known = n < channels
    mask = inside[:, None] & known[None, :]
    channel = column + n
    place = pooled.to(tl.int64)[:, None] * pitch + channel[None, :]
    g = completed(written, 0, place, channel, known, mask, REAL)
    if probability is not None:
        g *= dropout_factor(seed, draw, pixel, n, channels, probability)
    store_tile(target, target_pitch, pixel, pixels, n, target_pitch, g / (WINDOW * WINDOW))


@triton.jit
def mean_activation(
    source, pitch, norm, means, area, channels,
    EPS: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, OVERLAPS: tl.constexpr,
):  # fmt: skip
    """means (images, channels) of ReLU(norm(source)) over the `area` pixels of each image.

    Grid: images, blocks of channels.
    """
    begin(OVERLAPS)
    image, n = tl.program_id(0), tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    known = n < channels
    REAL: tl.constexpr = norm.mean.dtype.element_ty
    scale, shift = scale_and_shift(norm, n, known, EPS)
    total = tl.zeros((BLOCK_M, BLOCK_N), REAL)
    for first in range(0, area, BLOCK_M):
        place = first + tl.arange(0, BLOCK_M)
        mask = (place < area)[:, None] & known[None, :]
        x = load_tile(source, pitch, image * area + place, n, mask, REAL)
        total += tl.where(mask, relu(x * scale[None, :] + shift[None, :]), 0.0)
    tl.store(means + image * channels + n, tl.sum(total, axis=0) / area, known)


@triton.jit
def mean_activation_gradient(
    gradient, source, source_gradient, pitch, norm, noted, pixels, area, channels, tiles,
    EPS: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, GROUP: tl.constexpr,
    OVERLAPS: tl.constexpr,
):  # fmt: skip
    """source_gradient = scale·(gradient of norm's output), from the gradient of the means.

    noted: the gradients of γ and β.

    Grid: blocks of channels, programs that do `tiles` tiles of BLOCK_M pixels each.
    """
    begin(OVERLAPS)
    n, program = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N), tl.program_id(1)
    REAL: tl.constexpr = norm.mean.dtype.element_ty
    scale, shift, mean = reader(norm, n, n < channels, EPS)
    gamma, beta = tl.zeros((BLOCK_N,), REAL), tl.zeros((BLOCK_N,), REAL)
    for tile in range(tiles):
        pixel = (program * tiles + tile) * BLOCK_M + tl.arange(0, BLOCK_M)
        mask = (pixel < pixels)[:, None] & (n < channels)[None, :]
        dy = load_tile(gradient, channels, pixel // area, n, mask, REAL) / area
        x = load_tile(source, pitch, pixel, n, mask, REAL)
        target = source_gradient + pixel.to(tl.int64)[:, None] * pitch + n[None, :]
        gamma, beta = add_gradient(
            dy, x, scale, shift, mean, target, mask, gamma, beta, ACCUMULATE=False
        )
    finish_gradient(gamma, beta, noted, norm, n, channels, pixels, EPS, GROUP)


@triton.jit
def max_pool(
    source, source_pitch, norm, source_height, source_width, target, target_pitch, choice, measured,
    pixels, height, width, channels, tiles,
    EPS: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, GROUP: tl.constexpr,
    OVERLAPS: tl.constexpr,
):  # fmt: skip
    """target = the largest of 3x3 pixels of ReLU(norm(source)), stride 2; choice: the first of these.

    Columns of target beyond the last channel become zero.

    Grid: blocks of its columns, programs that do `tiles` tiles of BLOCK_M of its pixels each.
    """
    begin(OVERLAPS)
    n, program = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N), tl.program_id(1)
    known = n < channels
    REAL: tl.constexpr = norm.mean.dtype.element_ty
    scale, shift = scale_and_shift(norm, n, known, EPS)
    mean, squares = tl.zeros((BLOCK_N,), REAL), tl.zeros((BLOCK_N,), REAL)
    for tile in range(tiles):
        pixel = (program * tiles + tile) * BLOCK_M + tl.arange(0, BLOCK_M)
        image, top = pixel // width // height, pixel // width % height * 2 - 1
        best = tl.zeros((BLOCK_M, BLOCK_N), REAL)
        which = tl.zeros((BLOCK_M, BLOCK_N), tl.int32)
        for tap in tl.static_range(9):
            row, column = top + tap // 3, pixel % width * 2 - 1 + tap % 3
            inside = (pixel < pixels) & (row >= 0) & (row < source_height)
            inside &= (column >= 0) & (column < source_width)
            mask = inside[:, None] & known[None, :]
            near = (image * source_height + row) * source_width + column
            y = load_tile(source, source_pitch, near, n, mask, REAL) * scale[None, :] + shift[None, :]
            y = relu(y).to(target.dtype.element_ty).to(REAL)  # compared in the format of the target
            larger = mask & ((y > best) | (y != y))
            best, which = tl.where(larger, y, best), tl.where(larger, tap, which)
        best = store_tile(target, target_pitch, pixel, pixels, n, target_pitch, best)
        store_tile(choice, channels, pixel, pixels, n, channels, which)
        mean, squares = add_moments(best, pixel < pixels, mean, squares, tile * BLOCK_M)
    if measured is not None:
        finish_moments(mean, squares, measured, 0, n, channels, pixels, tiles * BLOCK_M, GROUP)


@triton.jit
def max_pool_gradient(
    written, written_pitch, pooled_height, pooled_width, choice,
    source, source_gradient, pitch, norm, noted, pixels, height, width, channels, tiles,
    EPS: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, GROUP: tl.constexpr,
    OVERLAPS: tl.constexpr,
):  # fmt: skip
    """source_gradient = scale·(gradient of norm's output), from the gradient of the maxima.

    noted: the gradients of γ and β.

    Grid: blocks of channels, programs that do `tiles` tiles of BLOCK_M pixels of the source each.
    """
    begin(OVERLAPS)
    n, program = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N), tl.program_id(1)
    REAL: tl.constexpr = norm.mean.dtype.element_ty
    gamma, beta = tl.zeros((BLOCK_N,), REAL), tl.zeros((BLOCK_N,), REAL)
    for tile in range(tiles):
        pixel = (program * tiles + tile) * BLOCK_M + tl.arange(0, BLOCK_M)
        image, y, x = pixel // width // height, pixel // width % height, pixel % width
        dy = tl.zeros((BLOCK_M, BLOCK_N), REAL)
        for corner in tl.static_range(4):  # a pixel lies in one or two windows in each direction
            row, column = (y + 1) // 2 - corner // 2, (x + 1) // 2 - corner % 2
            down, right = y - 2 * row + 1, x - 2 * column + 1
            inside = (pixel < pixels) & (row >= 0) & (row < pooled_height) & (down < 3)
            inside &= (column >= 0) & (column < pooled_width) & (right < 3)
            mask = inside[:, None] & (n < channels)[None, :]
            near = (image * pooled_height + row) * pooled_width + column
            chosen = load_tile(choice, channels, near, n, mask, tl.int32) == (down * 3 + right)[:, None]
            place = near.to(tl.int64)[:, None] * written_pitch + n[None, :]
            dy += completed(written, 0, place, n, n < channels, mask & chosen, REAL)
        mask = (pixel < pixels)[:, None] & (n < channels)[None, :]
        scale, shift, mean = reader(norm, n, n < channels, EPS)
        value = load_tile(source, pitch, pixel, n, mask, REAL)
        target = source_gradient + pixel.to(tl.int64)[:, None] * pitch + n[None, :]
        gamma, beta = add_gradient(
            dy, value, scale, shift, mean, target, mask, gamma, beta, ACCUMULATE=False
        )
    finish_gradient(gamma, beta, noted, norm, n, channels, pixels, EPS, GROUP)
