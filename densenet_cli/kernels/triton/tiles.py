# ruff: noqa: N803 -- capitals for constants of a kernel are Triton's custom
"""What kernels share: loading, normalising and storing a tile (rows of pixels, columns of channels).

A tile is loaded in the number format of the maps, and computed with in that of their statistics.
"""

import triton
import triton.language as tl
from triton.language.extra import cuda

from densenet_cli.kernels import engine

DRAW = tl.constexpr(engine.DRAW)
SIZES = [  # arguments whose values a kernel is not specialised for
    "pixels",
    "height",
    "width",
    "inputs",
    "channels",
    "tiles",
    "share",
    "programs",
    "column",
    "target_height",
    "target_width",
    "probability",
    "draw",
]


@triton.jit
def begin(OVERLAPS: tl.constexpr):
    """What each kernel does first, before it reads or writes memory.

    If launches overlap, its programs may come while the kernel before is still at work: wait until that
    one has ended, then let the programs of the next one come and wait.
    """
    if OVERLAPS:
        cuda.gdc_wait()
        cuda.gdc_launch_dependents()


@triton.jit
def load_tile(maps, pitch, pixel, channel, mask, REAL: tl.constexpr):
    """Maps at pixels (M,) and channels (N,); zero where the mask (M, N) is false."""
    place = pixel.to(tl.int64)[:, None] * pitch + channel[None, :]
    return tl.load(maps + place, mask=mask, other=0.0).to(REAL)


@triton.jit
def inverse_deviation(norm, channel, known, EPS: tl.constexpr):
    """1/√(variance + ε) for channels (N,)."""
    return tl.rsqrt(tl.load(norm.variance + channel, known, 1.0) + EPS)


@triton.jit
def scale_and_shift(norm, channel, known, EPS: tl.constexpr):
    """A batch norm as y = scale·x + shift; scale and shift, (N,) each."""
    scale = tl.load(norm.gamma + channel, known, 0.0) * inverse_deviation(norm, channel, known, EPS)
    mean = tl.load(norm.mean + channel, known, 0.0)
    return scale, tl.load(norm.beta + channel, known, 0.0) - mean * scale


@triton.jit
def reader(norm, channel, known, EPS: tl.constexpr):
    """Scale and shift of a batch norm, see `scale_and_shift`, and its mean; (N,) each."""
    scale, shift = scale_and_shift(norm, channel, known, EPS)
    return scale, shift, tl.load(norm.mean + channel, known, 0.0)


@triton.jit
def relu(y):
    """The larger of y and 0; a NaN stays NaN."""
    return tl.maximum(y, 0.0, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def in_image(pixel, pixels, height, width, down, right):
    """Whether the pixel some rows below and some columns to the right lies in the same image."""
    row, column = pixel // width % height + down, pixel % width + right
    return (pixel < pixels) & (row >= 0) & (row < height) & (column >= 0) & (column < width)


@triton.jit
def dropout_factor(seed, draw, pixel, channel, channels, probability):
    """0 or 1 / (1 - probability); depends only on seed, draw, pixel and channel."""
    element = pixel.to(tl.int64)[:, None] * channels + channel[None, :]
    key = tl.load(seed) + draw.to(tl.int64) * DRAW
    return tl.where(tl.rand(key, element) < probability, 0.0, 1.0 / (1.0 - probability))


@triton.jit
def store_tile(target, pitch, pixel, pixels, channel, channels, values):
    """Write a tile without what lies beyond the last pixel or channel. Returns the values as stored."""
    place = pixel.to(tl.int64)[:, None] * pitch + channel[None, :]
    stored = values.to(target.dtype.element_ty)
    tl.store(target + place, stored, mask=(pixel < pixels)[:, None] & (channel < channels)[None, :])
    return stored.to(values.dtype)


@triton.jit
def add_moments(values, inside, mean, squares, count):
    """Update mean and Σ (x - mean)² of `count` pixels by those of a tile that are inside.

    Two passes over registers and the formula of Chan et al. 1979 keep precision if the mean is large.
    """
    here = tl.sum(inside.to(tl.int32), axis=0).to(values.dtype)
    both = here + count
    mean_here = tl.sum(tl.where(inside[:, None], values, 0.0), axis=0) / tl.maximum(here, 1.0)
    distance = tl.where(inside[:, None], values - mean_here[None, :], 0.0)
    step = mean_here - mean
    squares += tl.sum(distance * distance, axis=0) + step * step * (here * count / both)
    return mean + step * (here / both), squares


@triton.jit
def store_pair(parts, program, programs, channel, channels, first, second):
    """Write two numbers per channel of one program into parts (2, programs, channels)."""
    known = channel < channels
    tl.store(parts + program * channels + channel, first, known)
    tl.store(parts + (programs + program) * channels + channel, second, known)


@triton.jit
def completed(written, first, place, channel, known, mask, REAL: tl.constexpr):
    """A tile of gradient + slope·(maps - mean) + offset; zero where the mask (M, N) is false.

    Args:
        written: maps and their gradient, see `launch.Written`.
        first, place: where the numbers lie: one int64, to which places (M, N) are added.
        channel, known: columns (N,) of the maps, and whether they are wanted.
    """
    g = tl.load(written.gradient + first + place, mask, 0.0).to(REAL)
    if written.slope is not None:
        distance = tl.load(written.maps + first + place, mask, 0.0).to(REAL)
        distance -= tl.load(written.mean + channel, known, 0.0)[None, :]
        slope = tl.load(written.slope + channel, known, 0.0)
        g += slope[None, :] * distance + tl.load(written.offset + channel, known, 0.0)[None, :]
        g = tl.where(mask, g, 0.0)
    return g


@triton.jit
def add_gradient(dy, x, scale, shift, mean, target, mask, gamma, beta, ACCUMULATE: tl.constexpr):
    """Add to a tile of the gradient of source, from the gradient dy of ReLU(scale·x + shift).

    Args:
        dy: zero beyond the last pixel.
        x: of source, finite.
        target, mask: pointers to the gradient of source (M, N), and which of them are used.

    Returns:
        gamma, to which Σ (gradient of norm's output)·(x - mean) of the tile has been added, and beta
        with Σ (gradient of norm's output).
    """
    # A product and not tl.where, for which Triton would move masks between threads: many instructions.
    dy *= (x * scale[None, :] + shift[None, :] > 0).to(dy.dtype)
    passed = dy * scale[None, :]
    if ACCUMULATE:
        passed += tl.load(target, mask, 0.0).to(dy.dtype)
    tl.store(target, passed, mask)
    gamma += tl.sum(dy * (x - mean[None, :]), axis=0)
    beta += tl.sum(dy, axis=0)
    return gamma, beta
