"""What decisions promise, simulated: few false ones, and most of the differences.

.venv/bin/pytest -m slow -s tests/decisions/test_error_rates.py      prints the figures
"""

import math

import numpy as np
import pytest
from scipy import stats

from densenet_cli.decisions import seeds_needed
from densenet_cli.decisions.boundaries import boundaries
from densenet_cli.decisions.comparison import compare
from densenet_cli.decisions.rule import BETTER, EQUAL, UNDECIDED, WORSE, Rule
from densenet_cli.decisions.sequential import decide

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SPREAD = 0.25  # percent points over seeds, as of CIFAR-10 runs
LOOKS = tuple(range(3, 11))
SHARED = 0.8  # the share of the variance that runs of one seed have in common, where they have one


class Simulation:
    """Errors of a baseline and of other settings that differ from it by known amounts."""

    def __init__(self, shared: float, same_seeds: bool = True) -> None:
        self.random = np.random.default_rng(int(1000 * shared) + same_seeds)
        self.shared, self.same_seeds = shared, same_seeds

    def draw(self, seeds: int, differences: list[float]) -> tuple[list[dict], dict]:
        """The settings' errors by seed, and the baseline's."""
        common = np.sqrt(self.shared) * self.random.standard_normal(seeds)
        own = np.sqrt(1 - self.shared) * self.random.standard_normal((len(differences) + 1, seeds))
        errors = 6 + SPREAD * (common + own) + np.array([0.0, *differences])[:, None]
        first = 0 if self.same_seeds else 1000
        baseline = dict(enumerate(errors[0].tolist()))
        return [dict(enumerate(row, first)) for row in errors[1:].tolist()], baseline


def _says(name: str, share: float, repeats: int) -> None:
    print(f"\n{name}: {100 * share:.1f} % of {repeats:,}", end="")


def _at_most(share: float, promised: float, repeats: int) -> None:
    """Fail if a share is above what is promised, by more than chance explains (three deviations)."""
    assert share <= promised + 3 * math.sqrt(promised * (1 - promised) / repeats), share


def _at_least(share: float, promised: float, repeats: int) -> None:
    assert share >= promised - 3 * math.sqrt(promised * (1 - promised) / repeats), share


WAYS = [(0.0, True), (SHARED, True), (0.0, False)]
WAY_NAMES = ["paired, unrelated", "paired, related", "unpaired"]


@pytest.mark.parametrize(("seeds", "comparisons"), [(3, 1), (5, 10)])
@pytest.mark.parametrize("way", WAYS, ids=WAY_NAMES)
def test_fixed_false_decisions(way, seeds, comparisons, request):
    """A sweep of settings that are all alike: is any called better or worse?"""
    repeats = 4000 if comparisons == 1 else 800
    simulation, false = Simulation(*way), 0
    for _ in range(repeats):
        found = compare(*simulation.draw(seeds, [0.0] * comparisons))
        assert all(one.paired == way[1] for one in found)
        false += any(one.word in (BETTER, WORSE) for one in found)
    _says(f"fixed, {request.node.callspec.id}: false decisions", false / repeats, repeats)
    _at_most(false / repeats, 0.05, repeats)


@pytest.mark.parametrize("comparisons", [1, 10])
@pytest.mark.parametrize("way", WAYS[:2], ids=WAY_NAMES[:2])
def test_sequential_false_decisions(way, comparisons, request):
    repeats = 10_000 if comparisons == 1 else 2000
    simulation, false, rule = Simulation(*way), 0, Rule(comparisons=comparisons)
    for _ in range(repeats):
        settings, baseline = simulation.draw(LOOKS[-1], [0.0] * comparisons)
        found = [decide(ours, baseline, rule, LOOKS) for ours in settings]
        false += any(one.word != UNDECIDED for one in found)
    _says(f"sequential, {request.node.callspec.id}: false decisions", false / repeats, repeats)
    _at_most(false / repeats, 0.05, repeats)
    if comparisons == 1:  # nor is the level given away
        _at_least(false / repeats, 0.05, repeats)


@pytest.mark.parametrize("kind", ["fixed", "sequential"])
def test_false_equalities(kind):
    """Settings as far apart as the margin: are they called equal?"""
    repeats, margin = 2000, 0.3
    simulation, false, found = Simulation(SHARED), 0, 0
    for _ in range(repeats):
        for difference in (margin, 0.0):
            settings, baseline = simulation.draw(LOOKS[-1], [difference])
            if kind == "fixed":
                word = compare(settings, baseline, margin)[0].word
            else:
                word = decide(settings[0], baseline, Rule(margin=margin), LOOKS).word
            false += difference == margin and word == EQUAL
            found += difference == 0.0 and word == EQUAL
    _says(f"{kind}: called equal at the margin", false / repeats, repeats)
    _says(f"{kind}: called equal without a difference", found / repeats, repeats)
    _at_most(false / repeats, 0.05, repeats)
    _at_least(found / repeats, 0.8, repeats)


@pytest.mark.parametrize("way", WAYS, ids=WAY_NAMES)
def test_fixed_differences_of_one_deviation_are_found_with_the_seeds_promised(way):
    """One standard deviation over seeds, of a single setting."""
    effect = 1 / math.sqrt(2 * (1 - way[0]))  # in standard deviations of the difference of two runs
    seeds = seeds_needed.for_difference(effect, 0.05, per_seed=1 if way[1] else 2)
    repeats, simulation, found = 2000, Simulation(*way), 0
    for _ in range(repeats):
        found += compare(*simulation.draw(seeds, [-SPREAD]))[0].word == BETTER
    _says(f"fixed, one deviation, {seeds} seeds promised: found", found / repeats, repeats)
    _at_least(found / repeats, 0.8, repeats)
    _at_most(found / repeats, 0.9, repeats)  # the next smaller number would be too few


def test_ten_fixed_comparisons_find_a_difference_with_the_seeds_promised():
    """Nine alike and one that is better: the promise is made for the corrected level."""
    seeds = seeds_needed.for_difference(1.0, 0.05 / 10)
    repeats, simulation, found = 600, Simulation(0.5), 0
    for _ in range(repeats):
        words = [one.word for one in compare(*simulation.draw(seeds, [-SPREAD, *[0.0] * 9]))]
        found += words[0] == BETTER
    _says(
        f"fixed, one deviation of 10 settings, {seeds} seeds promised: found", found / repeats, repeats
    )
    _at_least(found / repeats, 0.8, repeats)


def _most_seeds(effect: float, rule: Rule) -> int:
    """The seeds of a plan whose last look has power 0.8, so that all looks have at least that."""

    def power(most: int) -> float:
        edge = boundaries(rule.level / rule.comparisons, tuple(range(3, most + 1)))[-1]
        return float(stats.nct.sf(edge, most - 1, effect * math.sqrt(most)))

    one_look = seeds_needed.for_difference(effect, rule.level / rule.comparisons)
    return next(most for most in range(max(4, one_look), 100) if power(most) >= 0.8)


@pytest.mark.parametrize(("comparisons", "effect"), [(1, 1.0), (10, 1.0), (1, 2.0)])
def test_sequential_differences_are_found_with_the_most_seeds_promised(comparisons, effect):
    rule = Rule(comparisons=comparisons)
    most = _most_seeds(effect, rule)
    looks = tuple(range(3, most + 1))
    repeats, simulation, found, used = 3000, Simulation(0.5), 0, 0
    for _ in range(repeats):
        settings, baseline = simulation.draw(most, [-effect * SPREAD])
        decision = decide(settings[0], baseline, rule, looks)
        found += decision.word == BETTER
        used += decision.seeds
    name = (
        f"sequential, {effect:g} deviations, {comparisons} comparisons, at most {most} seeds promised"
    )
    _says(f"{name}: {used / repeats:.1f} on average; found", found / repeats, repeats)
    _at_least(found / repeats, 0.8, repeats)


def test_a_look_after_every_run_without_allowance_would_be_wrong_often():
    """Why the boundaries are needed: ordinary tests at the same looks."""
    repeats, simulation, false = 4000, Simulation(0.5), 0
    edges = [boundaries(0.05, (n,))[0] for n in LOOKS]
    for _ in range(repeats):
        settings, baseline = simulation.draw(LOOKS[-1], [0.0])
        x = np.array([settings[0][seed] - baseline[seed] for seed in range(LOOKS[-1])])
        t = [abs(x[:n].mean()) / x[:n].std(ddof=1) * math.sqrt(n) for n in LOOKS]
        false += any(one > edge for one, edge in zip(t, edges, strict=True))
    _says("ordinary tests at every look: false decisions", false / repeats, repeats)
    assert false / repeats > 0.1
