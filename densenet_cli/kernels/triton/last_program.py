# ruff: noqa: N803 -- capitals for constants of a kernel are Triton's custom
"""What the last program of a launch does: it adds up what all programs have stored, in a fixed order.

So no further launch is needed. Programs that share a block of columns, along the second axis of the
grid, are added up in two steps: the last of each GROUP adds up its group, the last of all the groups.
Which program is the last may differ from run to run, what it computes does not.

Each launch needs memory for two numbers per channel from each program and each group, and counters
that are zero: for each block of columns one for each group, and one more. They are zero again
afterwards.
"""

import triton
import triton.language as tl

from densenet_cli.kernels.triton.tiles import inverse_deviation, load_tile, store_pair


@triton.jit
def is_last(counter, count):
    """Whether this is the last of `count` programs to come here: it sees what the others stored."""
    tl.debug_barrier()
    last = tl.atomic_add(counter, 1, sem="acq_rel") == count - 1
    if last:
        tl.store(counter, 0)
    return last


@triton.jit
def _group(counters, GROUP: tl.constexpr):
    """This program's group of those that share its block of columns.

    Returns:
        the group's number, its first program and the one after its last; its counter; the number of
        groups, and their counter.
    """
    groups, group = tl.cdiv(tl.num_programs(1), GROUP), tl.program_id(1) // GROUP
    counters += tl.program_id(0) * (groups + 1)
    first, end = group * GROUP, tl.minimum(group * GROUP + GROUP, tl.num_programs(1))
    return group, first, end, counters + group, groups, counters + groups


@triton.jit
def finish_moments(
    mean, squares, measured, column, n, channels, pixels, share, GROUP: tl.constexpr
):  # fmt: skip
    """Store mean and biased variance of columns n, the first at `column` of all maps.

    Args:
        mean, squares: of this program's `share` pixels: the mean and Σ (x - mean)².
        measured: memory, counters, and where mean and variance of all maps are stored.
    """
    parts, programs = measured.parts, tl.num_programs(1)
    group, first, end, counter, groups, counter_of_groups = _group(measured.counters, GROUP)
    store_pair(parts, tl.program_id(1), programs, n, channels, mean, squares)
    if is_last(counter, end - first):
        mean, squares = _moments(parts, programs, first, end, n, channels, pixels, share, GROUP)
        parts += 2 * programs * channels
        store_pair(parts, group, groups, n, channels, mean, squares)
        if is_last(counter_of_groups, groups):
            mean, squares = _moments(
                parts, groups, 0, groups, n, channels, pixels, share * GROUP, GROUP
            )
            tl.store(measured.mean + column + n, mean, n < channels)
            tl.store(measured.variance + column + n, squares / pixels, n < channels)


@triton.jit
def _moments(parts, rows, first, end, n, channels, pixels, share, GROUP: tl.constexpr):
    """Mean and Σ (x - mean)² of all pixels of the rows first to end of parts (2, rows, channels)."""
    row = first + tl.arange(0, GROUP)
    mask = (row < end)[:, None] & (n < channels)[None, :]
    REAL: tl.constexpr = parts.dtype.element_ty  # noqa: N806
    count = tl.where(row < end, tl.minimum(pixels - row * share, share), 0).to(REAL)
    means = load_tile(parts, channels, row, n, mask, REAL)
    mean = tl.sum(means * count[:, None], axis=0) / tl.sum(count, axis=0)
    distance = means - mean[None, :]
    squares = load_tile(parts, channels, rows + row, n, mask, REAL)
    return mean, tl.sum(squares + distance * distance * count[:, None], axis=0)


@triton.jit
def finish_gradient(
    gamma, beta, noted, norm, n, channels, pixels, EPS: tl.constexpr, GROUP: tl.constexpr
):  # fmt: skip
    """Store the gradients of γ and β of columns n; add to slope and offset, see `Maps.correction`.

    Args:
        gamma, beta: this program's parts of Σ dy·(x - mean) and Σ dy, see `tiles.add_gradient`.
        noted: memory, counters, where the gradients are stored; slope and offset, which may be None.
    """
    parts, programs = noted.parts, tl.num_programs(1)
    group, first, end, counter, groups, counter_of_groups = _group(noted.counters, GROUP)
    store_pair(parts, tl.program_id(1), programs, n, channels, gamma, beta)
    if is_last(counter, end - first):
        gamma, beta = _sums(parts, programs, first, end, n, channels, GROUP)
        parts += 2 * programs * channels
        store_pair(parts, group, groups, n, channels, gamma, beta)
        if is_last(counter_of_groups, groups):
            known = n < channels
            gamma, beta = _sums(parts, groups, 0, groups, n, channels, GROUP)
            rstd = inverse_deviation(norm, n, known, EPS)
            gamma *= rstd
            tl.store(noted.gamma + n, gamma, known)
            tl.store(noted.beta + n, beta, known)
            if noted.slope is not None:
                share = tl.load(norm.gamma + n, known, 0.0) * rstd / pixels
                slope, offset = noted.slope + n, noted.offset + n
                tl.store(offset, tl.load(offset, known, 0.0) - share * beta, known)
                tl.store(slope, tl.load(slope, known, 0.0) - share * rstd * gamma, known)


@triton.jit
def _sums(parts, rows, first, end, n, channels, GROUP: tl.constexpr):
    """The sums of the rows first to end of parts (2, rows, channels)."""
    row = first + tl.arange(0, GROUP)
    mask = (row < end)[:, None] & (n < channels)[None, :]
    REAL: tl.constexpr = parts.dtype.element_ty  # noqa: N806
    gamma = load_tile(parts, channels, row, n, mask, REAL)
    beta = load_tile(parts, channels, rows + row, n, mask, REAL)
    return tl.sum(gamma, axis=0), tl.sum(beta, axis=0)
