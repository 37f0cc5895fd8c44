"""Decisions once all runs are there, against published examples."""

import pytest
from scipy import stats

from densenet_cli.decisions import seeds_needed
from densenet_cli.decisions.comparison import compare, holm
from densenet_cli.decisions.rule import BETTER, EQUAL, UNDECIDED, WORSE
from densenet_cli.decisions.single_runs import mcnemar

# Hours of sleep gained by two drugs (Cushny and Peebles 1905; Student 1908; `sleep` in R).
DRUG_1 = dict(enumerate([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]))
DRUG_2 = dict(enumerate([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]))


def _elsewhere(errors):
    return {seed + 100: error for seed, error in errors.items()}


def test_shared_seeds_are_paired_as_in_students_example():
    (found,) = compare([DRUG_1], DRUG_2)
    assert (found.word, found.paired, found.n, found.n_baseline) == (BETTER, True, 10, 10)
    assert found.difference == pytest.approx(-1.58)
    assert (found.low, found.high) == pytest.approx((-2.4598858, -0.7001142))  # R's t.test
    assert found.p == pytest.approx(0.002833, abs=5e-7)
    assert compare([DRUG_2], DRUG_1)[0].word == WORSE


def test_other_seeds_are_compared_by_welchs_test():
    (found,) = compare([_elsewhere(DRUG_1)], DRUG_2)
    assert (found.word, found.paired) == (UNDECIDED, False)
    assert (found.low, found.high) == pytest.approx((-3.3654832, 0.2054832))  # R's t.test
    assert found.p == pytest.approx(0.07939, abs=5e-6)
    assert found.reason == "the interval contains 0"
    assert found.further_at_least < found.further


def test_a_few_shared_seeds_are_not_worth_leaving_out_the_others():
    ours = {seed + 7: error for seed, error in DRUG_1.items()}
    assert not compare([ours], DRUG_2)[0].paired
    half = {seed + 5: error for seed, error in DRUG_1.items()}
    assert compare([half], DRUG_2)[0].paired
    assert compare([half], DRUG_2)[0].n == 5


def test_holms_correction():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # p.adjust of R
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_every_comparison_is_corrected_for_the_others():
    alone = compare([DRUG_1], DRUG_2)[0]
    noise = {seed: error + (-1) ** seed for seed, error in DRUG_2.items()}
    many = compare([DRUG_1, *[noise] * 20], DRUG_2)[0]
    assert (many.p, many.p_holm) == pytest.approx((alone.p, 21 * alone.p))
    assert many.word == UNDECIDED
    assert many.reason == "p=0.0028 is 0.059 after correction for 21 comparisons"
    assert many.further_at_least < many.further


def test_equal_is_said_where_the_90_percent_interval_lies_within_the_margin():
    near = {seed: error + 0.02 * (-1) ** seed + 0.01 for seed, error in DRUG_2.items()}
    interval = stats.ttest_rel(list(near.values()), list(DRUG_2.values())).confidence_interval(0.9)
    assert compare([near], DRUG_2, margin=interval.high + 1e-6)[0].word == EQUAL
    assert compare([near], DRUG_2, margin=interval.high - 1e-6)[0].word == UNDECIDED
    assert compare([near], DRUG_2)[0].word == UNDECIDED
    assert compare([DRUG_1], DRUG_2, margin=3)[0].word == EQUAL  # found, but within the margin
    assert compare([DRUG_1], DRUG_2, margin=1.58)[0].word == BETTER


@pytest.mark.parametrize(
    ("ours", "baseline", "reason"),
    [
        ({0: 5.0}, {0: 6.0}, "with one seed each, the spread over seeds is unknown; run 3 or more"),
        ({0: 5.0}, {0: 6.0, 1: 6.1}, "it has one seed"),
        ({0: 5.0, 1: 5.1}, {3: 6.0}, "the baseline has one seed"),
        ({}, {0: 6.0}, "no run is done"),
        ({0: 6.0}, {}, "no run of the baseline is done"),
        ({0: 5.0, 1: 5.1, 2: 5.2}, {0: 6.0, 1: 6.1, 2: 6.2}, "there is no spread"),
    ],
)
def test_where_no_test_can_be_made_the_reason_is_given(ours, baseline, reason):
    (found,) = compare([ours], baseline, margin=10)
    assert (found.word, found.p, found.low) == (UNDECIDED, None, None)
    assert reason in found.reason


def test_comparisons_without_a_test_do_not_count_in_the_correction():
    assert compare([DRUG_1, {0: 5.0}, {}], DRUG_2)[0].p_holm == pytest.approx(0.002833, abs=5e-7)


@pytest.mark.parametrize(("effect", "seeds"), [(0.2, 394), (0.5, 64), (0.8, 26)])
def test_seeds_needed_without_pairs_are_those_of_cohens_table(effect, seeds):
    # Cohen, Statistical Power Analysis (1988), table 2.4.1 (393, 64, 26); power.t.test of R
    assert seeds_needed.for_difference(effect / 2**0.5, 0.05, per_seed=2) == seeds


@pytest.mark.parametrize(("effect", "seeds"), [(0.2, 199), (0.5, 34), (1.0, 10)])
def test_seeds_needed_in_pairs(effect, seeds):  # as power.t.test of R, type="paired"
    assert seeds_needed.for_difference(effect, 0.05) == seeds
    assert seeds_needed.for_difference(-effect, 0.05) == seeds


def test_seeds_needed_may_be_unknown():
    assert seeds_needed.for_difference(0.0, 0.05) is None
    assert seeds_needed.for_difference(0.01, 0.05) is None
    assert seeds_needed.for_equality(0.5, 0.3, 0.05) is None
    assert seeds_needed.for_equality(0.0, 1.0, 0.05) < seeds_needed.for_equality(0.5, 1.0, 0.05)


def test_mcnemars_exact_test():
    ours = [False] * 9 + [True] * 2 + [True] * 21 + [False] * 12
    baseline = [True] * 9 + [False] * 2 + [True] * 21 + [False] * 12
    found = mcnemar(ours, baseline)  # the table of Fay's R package exact2x2
    assert (found.only_ours, found.only_baseline) == (9, 2)
    assert found.p == pytest.approx(0.06543, abs=5e-6)
    assert mcnemar(ours, ours).p == 1.0
    with pytest.raises(ValueError, match="zip"):
        mcnemar(ours, baseline[1:])
