"""Decisions at repeated looks, against direct simulation and tables of Student's t."""

import numpy as np
import pytest
from scipy import stats

from densenet_cli.decisions.boundaries import boundaries
from densenet_cli.decisions.rule import BETTER, EQUAL, UNDECIDED, WORSE, Rule
from densenet_cli.decisions.sequential import decide

LOOKS = range(3, 11)
BASELINE = dict.fromkeys(range(20), 6.0)


def _t_at_looks(looks, paths, seed):
    x = np.random.default_rng(seed).standard_normal((paths, looks[-1]))
    n = np.arange(1, looks[-1] + 1)
    mean = x.cumsum(1) / n
    with np.errstate(divide="ignore", invalid="ignore"):
        t = mean / np.sqrt((np.square(x).cumsum(1) / n - mean**2) / (n - 1))
    return t[:, np.array(looks) - 1]


@pytest.mark.parametrize("looks", [(3, 4, 5, 6, 7, 8, 9, 10), (2, 5, 12)])
@pytest.mark.parametrize("sides", [1, 2])
def test_each_look_spends_its_share_of_the_level(looks, sides):
    t = _t_at_looks(looks, 200_000, seed=sides)
    crossed = (np.abs(t) if sides == 2 else t) > np.array(boundaries(0.05, looks, sides))
    spent = np.maximum.accumulate(crossed, axis=1).mean(0)
    due = 0.05 * (np.array(looks) / looks[-1]) ** 2
    error = np.sqrt(due / len(t))
    assert np.all(np.abs(spent - due) < 4 * error + 0.005 * due)


def test_a_single_look_is_an_ordinary_t_test():
    assert boundaries(0.05, (10,)) == pytest.approx([2.262], abs=5e-4)  # any table of Student's t
    assert boundaries(0.05, (10,), 1) == pytest.approx([1.833], abs=5e-4)
    assert boundaries(0.005, (3,)) == pytest.approx([stats.t.ppf(0.9975, 2)], rel=1e-6)


def _errors(*values, start=0):
    return dict(enumerate(values, start))


def test_a_clear_difference_is_decided_at_the_first_look_and_stays_so():
    ours = _errors(5.0, 5.1, 4.9)
    first = decide(ours, BASELINE, Rule(), LOOKS)
    assert (first.word, first.seeds, first.difference) == (BETTER, 3, pytest.approx(-1.0))
    assert first.low < first.high < 0
    assert first.p == pytest.approx(stats.ttest_1samp([-1.0, -0.9, -1.1], 0).pvalue)
    assert first.level == pytest.approx(0.05 * 0.3**2)
    assert decide(ours | _errors(50.0, 60.0, start=3), BASELINE, Rule(), LOOKS) == first
    assert decide(BASELINE, ours, Rule(), LOOKS).word == WORSE


def test_only_shared_seeds_count_in_ascending_order():
    ours = {9: 5.1, 3: 5.0, 40: 0.0, 7: 4.9}
    found = decide(ours, BASELINE, Rule(), [3])
    assert (found.word, found.seeds) == (BETTER, 3)
    assert decide({9: 5.1, 3: 5.0, 40: 0.0}, BASELINE, Rule(), [3]).seeds == 2


def test_the_interval_and_the_level_tell_why_it_is_undecided():
    found = decide(_errors(5.0, 6.5, 6.1, 5.7), BASELINE, Rule(), LOOKS)
    assert (found.word, found.seeds) == (UNDECIDED, 4)
    assert found.low < 0 < found.high
    assert found.p > found.level
    assert found.reason == "the interval contains 0"


def test_more_comparisons_need_a_larger_difference():
    ours = _errors(5.0, 5.5, 5.2, 5.6, 5.3)
    assert decide(ours, BASELINE, Rule(), [5]).word == BETTER
    assert decide(ours, BASELINE, Rule(comparisons=100), [5]).word == UNDECIDED


def test_equal_is_said_only_within_a_margin():
    ours = _errors(6.01, 5.99, 6.02, 5.98)
    assert decide(ours, BASELINE, Rule(), LOOKS).word == UNDECIDED
    assert decide(ours, BASELINE, Rule(margin=0.3), LOOKS).word == EQUAL
    assert decide(ours, BASELINE, Rule(margin=0.01), LOOKS).word == UNDECIDED
    lower = _errors(5.9, 5.91, 5.89)
    assert decide(lower, BASELINE, Rule(), LOOKS).word == BETTER
    assert decide(lower, BASELINE, Rule(margin=0.3), LOOKS).word == EQUAL


def test_too_few_seeds_and_no_spread_are_undecided():
    none = decide({}, BASELINE, Rule(), LOOKS)
    assert (none.word, none.seeds, none.difference, none.p) == (UNDECIDED, 0, None, None)
    one = decide({0: 5.0}, BASELINE, Rule(), LOOKS)
    assert one.difference == -1.0
    assert one.reason == "1 shared seed, and the first test is made with 3"
    same = decide(dict.fromkeys(range(5), 5.0), BASELINE, Rule(margin=3), LOOKS)
    assert (same.word, same.low) == (UNDECIDED, None)
    assert "no spread" in same.reason


@pytest.mark.parametrize("looks", [[], [1, 2], [3, 3], [4, 3]])
def test_looks_must_ascend(looks):
    with pytest.raises(ValueError, match="looks="):
        decide({}, {}, Rule(), looks)


@pytest.mark.parametrize("wrong", [{"level": 0}, {"margin": 0.0}, {"margin": -1}, {"comparisons": 0}])
def test_rules_are_checked(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Rule(**wrong)
