"""Decisions once all runs are there: a t-test of each setting against the baseline.

The words follow from p-values corrected after Holm (1979): those of "no difference" (two-sided) decide
better and worse, those of "further apart than the margin" (two one-sided tests, Schuirmann 1987) decide
equal; each kind is one family. Where a difference is found and lies within the margin all the same,
the word is equal, since the user called such differences too small to matter.

The noise that tests and intervals cover is that of training with other seeds. All runs see the same
test images, so what other test images would change is not in it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from densenet_cli.decisions import seeds_needed
from densenet_cli.decisions.rule import BETTER, EQUAL, LEVEL, SMALLEST_SPREAD, UNDECIDED, WORSE

CONFIDENCE = 0.95  # of the intervals

Errors = Mapping[Hashable, float]  # in percent, by seed


@dataclass(frozen=True)
class Comparison:
    """One setting against the baseline. Differences are ours − baseline, in percent points.

    Args:
        word: BETTER (our errors are lower), WORSE, EQUAL (within the margin) or UNDECIDED.
        n: the number of our errors that were used.
        n_baseline: that of the baseline's.
        paired: whether the differences within seeds were tested, else the means (Welch).
        difference: of the mean errors; None if one has no errors.
        low: the lower end of its 95 % interval, not corrected; None where no interval can be had.
        high: the upper end.
        p: of no difference, not corrected.
        p_holm: corrected for all comparisons made together.
        p_equal_holm: of being further apart than the margin, corrected; None without a margin.
        reason: why it is undecided; empty otherwise.
        spread: the standard deviation of the difference of two runs; None where it is unknown.
        per_seed: degrees of freedom that each seed adds: 1 in pairs, else up to 2.
        margin: as given.
        level: of one test if Bonferroni's correction were made, with which `further` is computed.
    """

    word: str
    n: int
    n_baseline: int
    paired: bool
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    p_equal_holm: float | None = None
    reason: str = ""
    spread: float | None = None
    per_seed: float = 1.0
    margin: float | None = None
    level: float = LEVEL

    @cached_property
    def further(self) -> int | None:
        """How many more seeds each of the two needs for a decision with power 0.8.

        The true difference and spread are taken to be the measured ones. None if it is decided, if
        nothing is known of the spread, or if more than 1,000 seeds are needed.
        """
        return self._further([self.difference])

    @cached_property
    def further_at_least(self) -> int | None:
        """As `further`, for the difference in the interval that is easiest to decide.

        That is the end further from 0 or, with a margin, no difference.
        """
        return self._further([self.low, self.high, min(max(0.0, self.low or 0.0), self.high or 0.0)])

    def _further(self, differences: Sequence[float | None]) -> int | None:
        if self.word != UNDECIDED or self.spread is None:
            return None
        effects = [one / self.spread for one in differences if one is not None]
        needed = [seeds_needed.for_difference(one, self.level, self.per_seed) for one in effects]
        if self.margin is not None:
            margin = self.margin / self.spread
            needed += [
                seeds_needed.for_equality(one, margin, self.level, self.per_seed) for one in effects
            ]
        known = [n for n in needed if n is not None]
        return max(1, min(known) - min(self.n, self.n_baseline)) if known else None


def compare(
    settings: Sequence[Errors], baseline: Errors, margin: float | None = None, level: float = LEVEL
) -> list[Comparison]:
    """Each of the settings against the baseline.

    Args:
        settings: the errors of each in percent, by seed.
        baseline: those of the baseline.
        margin: percent points; settings that differ by less are equal. None: never say equal.
        level: of the tests, for all settings together.

    Returns:
        One comparison for each setting. It is paired if two seeds are shared, and at least half of the
        seeds of the one with fewer; then only shared seeds are used.
    """
    samples = [_sample(ours, baseline) for ours in settings]
    tested = [sample for sample in samples if not sample.fault]
    corrected = holm([float(sample.test().pvalue) for sample in tested])
    equal: list[float | None] = [None] * len(tested)
    if margin is not None:
        equal = [*holm([sample.p_equal(margin) for sample in tested])]
    decided = iter(
        [
            _decided(sample, p, p_equal, margin, level, len(tested))
            for sample, p, p_equal in zip(tested, corrected, equal, strict=True)
        ]
    )
    return [sample.undecided() if sample.fault else next(decided) for sample in samples]


def holm(p: Sequence[float]) -> list[float]:
    """The p-values, corrected after Holm (1979) for being so many."""
    corrected, largest = [0.0] * len(p), 0.0
    for rank, index in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        largest = max(largest, min(1.0, (len(p) - rank) * p[index]))
        corrected[index] = largest
    return corrected


@dataclass(frozen=True)
class _Sample:
    """The errors that one comparison uses; paired ones in the same order of seeds."""

    ours: list[float]
    baseline: list[float]
    paired: bool

    def test(self, shift: float = 0.0, alternative: str = "two-sided") -> Any:
        """scipy's t-test of ours − baseline = shift."""
        from scipy import stats

        ours = [error - shift for error in self.ours]
        if self.paired:
            return stats.ttest_rel(ours, self.baseline, alternative=alternative)
        return stats.ttest_ind(ours, self.baseline, equal_var=False, alternative=alternative)

    def p_equal(self, margin: float) -> float:
        """Of being further apart than the margin: the larger one of two one-sided tests."""
        return float(max(self.test(margin, "less").pvalue, self.test(-margin, "greater").pvalue))

    @property
    def difference(self) -> float | None:
        if not self.ours or not self.baseline:
            return None
        return statistics.fmean(self.ours) - statistics.fmean(self.baseline)

    @property
    def variances(self) -> list[float]:
        """Those whose sum is the variance of the difference of two runs."""
        if self.paired:
            pairs = zip(self.ours, self.baseline, strict=True)
            return [statistics.variance(ours - baseline for ours, baseline in pairs)]
        return [statistics.variance(self.ours), statistics.variance(self.baseline)]

    @property
    def fault(self) -> str:
        """Why no test can be made; empty if one can."""
        if not self.ours or not self.baseline:
            return f"{'no run' if not self.ours else 'no run of the baseline'} is done"
        if len(self.ours) == len(self.baseline) == 1:
            return "with one seed each, the spread over seeds is unknown; run 3 or more"
        if min(len(self.ours), len(self.baseline)) == 1:
            which = "it" if len(self.ours) == 1 else "the baseline"
            return f"{which} has one seed, so its spread over seeds is unknown"
        if math.sqrt(sum(self.variances)) <= SMALLEST_SPREAD * max(*self.ours, *self.baseline):
            return "all differences are the same, so there is no spread to judge them by"
        return ""

    def undecided(self) -> Comparison:
        """The comparison without a test."""
        numbers = len(self.ours), len(self.baseline)
        return Comparison(UNDECIDED, *numbers, self.paired, self.difference, reason=self.fault)


def _sample(ours: Errors, baseline: Errors) -> _Sample:
    shared = [seed for seed in baseline if seed in ours]
    fewer = min(len(ours), len(baseline))
    if len(shared) >= 2 and 2 * len(shared) >= fewer:
        return _Sample([ours[seed] for seed in shared], [baseline[seed] for seed in shared], True)
    return _Sample(list(ours.values()), list(baseline.values()), False)


def _decided(
    sample: _Sample,
    p_holm: float,
    p_equal_holm: float | None,
    margin: float | None,
    level: float,
    tests: int,
) -> Comparison:
    test = sample.test()
    interval = test.confidence_interval(CONFIDENCE)
    low, high = float(interval.low), float(interval.high)
    variances = sample.variances
    found = replace(
        sample.undecided(),
        low=low,
        high=high,
        p=float(test.pvalue),
        p_holm=p_holm,
        p_equal_holm=p_equal_holm,
        spread=math.sqrt(sum(variances)),
        per_seed=sum(variances) ** 2 / sum(variance**2 for variance in variances),
        margin=margin,
        level=level / tests,
    )
    if p_equal_holm is not None and p_equal_holm <= level:
        return replace(found, word=EQUAL)
    if p_holm <= level:
        return replace(found, word=BETTER if low + high < 0 else WORSE)
    reason = "the interval contains 0"
    if test.pvalue <= level:
        reason = f"p={test.pvalue:.2g} is {p_holm:.2g} after correction for {tests} comparisons"
    return replace(found, reason=reason)
