"""How many seeds a decision needs, if a difference is as large as it seems: power of t-tests."""

from __future__ import annotations

from collections.abc import Callable

MOST = 1000  # seeds; a decision that needs more is no plan
POWER = 0.8


def for_difference(
    effect: float, level: float, per_seed: float = 1, power: float = POWER
) -> int | None:
    """The seeds with which a two-sided t-test finds a difference.

    Args:
        effect: the difference, as a multiple of the standard deviation of the differences of two runs.
        level: of the test.
        per_seed: degrees of freedom that each seed but the first adds: 1 in pairs, up to 2 without.
        power: the probability of finding it.

    Returns:
        2 or more; None for more than MOST.
    """
    from scipy.stats import nct, t

    def found(n: int) -> float:
        freedom = per_seed * (n - 1)
        edge = t.isf(level / 2, freedom)
        shift = abs(effect) * n**0.5
        return _at_least(nct.sf(edge, freedom, shift)) + _at_least(nct.cdf(-edge, freedom, shift))

    return _first(lambda n: found(n) >= power) if effect else None


def for_equality(
    effect: float, margin: float, level: float, per_seed: float = 1, power: float = POWER
) -> int | None:
    """The seeds with which two one-sided t-tests find a difference to be within the margin.

    Args:
        effect: the true difference, in the unit of `for_difference`.
        margin: in the same unit.
        level: of each one-sided test.
        per_seed: see `for_difference`.
        power: the probability of finding it.

    Returns:
        2 or more; None for more than MOST.
    """
    from scipy.stats import nct, t

    def found(n: int) -> float:
        freedom = per_seed * (n - 1)
        edge, root = t.isf(level, freedom), n**0.5
        above = nct.cdf(-edge, freedom, (abs(effect) - margin) * root)
        return _at_least(above) - _at_least(nct.cdf(edge, freedom, (abs(effect) + margin) * root))

    return _first(lambda n: found(n) >= power) if abs(effect) < margin else None


def _at_least(probability: float) -> float:
    """The probability, or 0 where scipy cannot compute one that small (NaN)."""
    return float(probability) if probability >= 0 else 0.0


def _first(is_enough: Callable[[int], bool]) -> int | None:
    """The smallest number from 2 to MOST that is enough; those above it are, too."""
    if not is_enough(MOST):
        return None
    low, high = 1, MOST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high
