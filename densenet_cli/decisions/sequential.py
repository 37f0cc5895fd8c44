"""Decisions while seeds are added: repeated t-tests whose error rate holds over all looks together.

The method is group-sequential: the looks are planned, and at each of them the paired t statistic is
compared with the boundary of an error-spending function (Lan and DeMets 1983; Jennison and Turnbull,
Group Sequential Methods, 2000, chapters 7 and 11). It is computed for t statistics and these looks, not
for normal ones and many: see `boundaries`. Equality is decided by two one-sided tests (Schuirmann
1987), each with one-sided boundaries. Each of several comparisons gets an equal share of the level
(Bonferroni), so that no decision depends on comparisons that are still open.

Why this one: a simulation of looks at 3 to 10 seeds, with differences of one standard deviation (of the
differences), found at level 0.05

    method                                        found   mean seeds
    one test with 10 seeds (no early end)           80 %         10.0
    power family, exponent 2 (this one)             72 %          8.2
    power family, exponent 3                        75 %          8.4
    O'Brien and Fleming's spending                  74 %          8.3
    power family, exponent 1                        65 %          8.1
    Pocock's spending                               60 %          8.1
    level divided by the number of looks            50 %          8.6
    confidence sequence (t mixture, Lai 1976)       39 %          9.0

and differences of three standard deviations are always found: in 4.7 seeds on average, with exponent 3
in 5.1, with exponent 1 in 4.2. A confidence sequence needs no plan of looks, but a sweep has one, and
the price would be half of the decisions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from densenet_cli.decisions.boundaries import boundaries
from densenet_cli.decisions.rule import BETTER, EQUAL, SMALLEST_SPREAD, UNDECIDED, WORSE, Decision, Rule


def decide(
    ours: Mapping[int, float], baseline: Mapping[int, float], rule: Rule, looks: Sequence[int]
) -> Decision:
    """Whether our errors are lower, by the seeds that both have.

    Seeds are taken in ascending order, and the first look that decides is final: errors of further
    seeds change nothing. So a sweep that was broken off gets the same answer, if it hands over no seed
    before all lower ones are there (or have failed for good).

    Args:
        ours: errors in percent by seed.
        baseline: those of the setting to compare with.
        rule: how sure the decision must be.
        looks: the numbers of shared seeds at which a test is made, all planned beforehand: 3, 4, … 10.

    Returns:
        The decision at the first look that decides, else UNDECIDED at the last one reached. Its
        interval holds at all looks together, and for all comparisons of the rule together.

    Raises:
        ValueError: if the looks do not ascend, or begin below 2.
    """
    looks = tuple(looks)
    if not looks or looks[0] < 2 or any(a >= b for a, b in pairwise(looks)):
        raise ValueError(f"looks={list(looks)}: must ascend, and begin with 2 or more")
    shared = sorted(ours.keys() & baseline.keys())
    differences = [ours[seed] - baseline[seed] for seed in shared]
    largest = max((abs(errors[seed]) for errors in (ours, baseline) for seed in shared), default=0.0)
    level = rule.level / rule.comparisons
    decision = _before_the_first_look(differences, looks[0])
    for look, (n, edge) in enumerate(zip(looks, boundaries(level, looks), strict=True)):
        if n > len(shared):
            break
        decision = _at_look(differences[:n], edge, SMALLEST_SPREAD * largest)
        if rule.margin is not None and decision.p is not None:
            edge = boundaries(level, looks, 1)[look]
            decision = _equal_within(decision, differences[:n], edge, rule.margin)
        if decision.word != UNDECIDED:
            break
    return decision


def _before_the_first_look(differences: Sequence[float], first: int) -> Decision:
    n = len(differences)
    seeds = f"{n} shared seed{'' if n == 1 else 's'}"
    return Decision(
        UNDECIDED,
        n,
        difference=math.fsum(differences) / n if n else None,
        reason=f"{seeds}, and the first test is made with {first}",
    )


def _at_look(differences: Sequence[float], edge: float, smallest_spread: float) -> Decision:
    """The decision about "no difference", by a boundary of |t|."""
    from scipy.stats import t

    n = len(differences)
    mean, error = _mean_and_error(differences)
    if error <= smallest_spread:
        reason = "all differences are the same, so there is no spread to judge them by"
        return Decision(UNDECIDED, n, mean, reason=reason)
    word = UNDECIDED
    if abs(mean) >= edge * error:
        word = BETTER if mean < 0 else WORSE
    return Decision(
        word,
        n,
        mean,
        low=mean - edge * error,
        high=mean + edge * error,
        p=float(2 * t.sf(abs(mean) / error, n - 1)),
        level=float(2 * t.sf(edge, n - 1)),
        reason="the interval contains 0" if word == UNDECIDED else "",
    )


def _equal_within(
    decision: Decision, differences: Sequence[float], edge: float, margin: float
) -> Decision:
    """The same, or EQUAL if the difference lies within the margin by a one-sided boundary of t."""
    mean, error = _mean_and_error(differences)
    if margin - abs(mean) < edge * error:
        return decision
    return replace(decision, word=EQUAL, reason="")


def _mean_and_error(differences: Sequence[float]) -> tuple[float, float]:
    """The mean, and its standard error."""
    n = len(differences)
    mean = math.fsum(differences) / n
    variance = math.fsum((value - mean) ** 2 for value in differences) / (n - 1)
    return mean, math.sqrt(variance / n)
