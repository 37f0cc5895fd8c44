"""The boundaries of repeated t-tests: how large t must be at each look, so that the level holds.

Under the hypothesis the differences x₁, x₂, … are normal with mean 0 and an unknown variance. Let
Uₙ = Σx / √(Σx²), of which t is a function. Its distribution does not depend on the variance, and as the
direction of (x₁ … xₙ) is independent of its length, Uₙ₊₁ = (Uₙ + w) / √(1 + w²), where √n·w has
Student's t distribution with n degrees of freedom. So the probability of a first crossing at each look
follows from a recursion in one variable, as that of Armitage, McPherson and Rowe (1969) for a known
variance. It needs no random numbers, and no normal approximation, which fails with three or four seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np

CELLS = 300  # in which the distribution is kept; with more, no boundary changes by 1 %
NEGLIGIBLE = 1e-7  # of the level: the probability of the t that lie outside all cells


@lru_cache(maxsize=64)
def boundaries(level: float, looks: tuple[int, ...], sides: int = 2) -> tuple[float, ...]:
    """How large t must be at each look to reject the hypothesis.

    The level spent until n differences is level · (n / last look)², after Kim and DeMets (1987).

    Args:
        level: the probability of crossing a boundary at any look, if the hypothesis is true.
        looks: the numbers of differences at which a test is made; ascending, each 2 or more.
        sides: 2 to test |t|, 1 to test t.

    Returns:
        One number for each look.
    """
    from scipy.optimize import brentq
    from scipy.special import stdtrit

    found, spent, paths = [], 0.0, None
    for n in range(looks[0], looks[-1] + 1):
        beyond = partial(_beyond, n, paths)
        edge = far = -float(stdtrit(n - 1, level * NEGLIGIBLE))
        if n in looks:
            due = level * (n / looks[-1]) ** 2
            share = (due - spent) / sides  # the lower boundary is the upper one's mirror image
            edge = brentq(lambda t, p, beyond: beyond([t])[0] - p, 1, far, (share, beyond), xtol=1e-9)
            spent = due
            found.append(edge)
        low, high = np.arcsinh([-edge if sides == 2 else -far, edge])
        t = np.sinh(np.linspace(low, high, 2 * CELLS + 1))  # close where t is small
        paths = _Paths(_u(t[1::2], n), -np.diff(beyond(t[::2])))
    return tuple(found)


class _Paths(NamedTuple):
    """The paths that crossed no boundary so far, in CELLS cells: U of each, and its probability."""

    places: np.ndarray
    masses: np.ndarray


def _beyond(n: int, paths: _Paths | None, t: Sequence[float] | np.ndarray) -> np.ndarray:
    """The probabilities that some t are exceeded after n differences, without a crossing before.

    Args:
        n: the number of differences.
        paths: after n - 1 of them; None at the first look.
        t: any numbers.
    """
    from scipy.special import stdtr

    lower = -np.asarray(t)  # lower tails are free of cancellation
    if paths is None:
        return stdtr(n - 1, lower)
    return paths.masses @ _at_most(_u(lower[None, :], n), -paths.places[:, None], n - 1)


def _u(t: np.ndarray, n: int) -> np.ndarray:
    """U where Student's t of n differences is t."""
    return t * np.sqrt(n / (n - 1 + np.square(t)))


def _at_most(v: np.ndarray, u: np.ndarray, n: int) -> np.ndarray:
    """The probability that U is at most v after n + 1 differences, if it is u after n.

    With w = tan φ and u = tan ψ the next U is √(1 + u²) · sin(φ + ψ), where φ is within ±π/2.
    """
    from scipy.special import stdtr

    psi = np.arctan(u)
    angle = np.arcsin(np.clip(v / np.sqrt(1 + u * u), -1, 1))

    def below(theta: np.ndarray) -> np.ndarray:
        phi = np.clip(theta - psi, -np.pi / 2, np.pi / 2)
        return stdtr(n, np.sqrt(n) * np.tan(phi))

    return below(angle) - below(-np.pi - angle) + (1 - below(np.pi - angle))
