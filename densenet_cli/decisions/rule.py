"""What a decision is made by, and what it is."""

from __future__ import annotations

import math
from dataclasses import dataclass

BETTER, WORSE, EQUAL, UNDECIDED = "better", "worse", "equal", "undecided"
WORDS = (BETTER, WORSE, EQUAL, UNDECIDED)
LEVEL = 0.05  # of the tests, for all comparisons together
SMALLEST_SPREAD = 1e-9  # of the largest error: less is rounding, and no spread to judge by


@dataclass(frozen=True)
class Rule:
    """How sure a decision must be.

    Args:
        level: the probability, at most, that any comparison of settings that are truly alike ends as
            better or worse; also that any of settings further apart than `margin` ends as equal.
        margin: percent points; settings that differ by less count as equal. None: never say equal.
        comparisons: how many are made together, decided or not.

    Raises:
        ValueError: if one of them is out of range.
    """

    level: float = LEVEL
    margin: float | None = None
    comparisons: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.level <= 0.2:
            raise ValueError(f"level={self.level}: must be above 0 and at most 0.2")
        if self.margin is not None and not 0 < self.margin < math.inf:
            raise ValueError(f"margin={self.margin}: must be above 0, in percent points")
        if self.comparisons < 1:
            raise ValueError(f"comparisons={self.comparisons}: must be 1 or more")


@dataclass(frozen=True)
class Decision:
    """What the errors of two settings say. Differences are ours − baseline, in percent points.

    Args:
        word: BETTER (our errors are lower), WORSE, EQUAL (within the margin) or UNDECIDED.
        seeds: the number of shared seeds that it rests on.
        difference: of the mean errors; None without a shared seed.
        low: the lower end of the interval of the difference; None where no interval can be had.
        high: its upper end.
        p: of the two-sided t-test of no difference, before any correction; None where there is none.
        level: what `p` must reach to decide, after all corrections; None as for `p`.
        reason: why it is undecided; empty otherwise.
    """

    word: str
    seeds: int
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    level: float | None = None
    reason: str = ""
