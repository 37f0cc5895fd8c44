"""Which runs comparisons need: the same ones in whatever order the runs finish."""

import numpy as np
import pytest

from densenet_cli.decisions.rounds import Design, in_order, most, needed, standings
from densenet_cli.decisions.rule import BETTER, UNDECIDED, WORSE, Rule

LOOKS = (3, 4, 6, 10)
SETTINGS = ("base", "alike", "close", "worse")


def _design(first_seed=5):
    return Design("base", SETTINGS, first_seed, LOOKS, Rule(0.05, None, len(SETTINGS) - 1))


def _errors(chance):
    """An error for each run: "alike" as the baseline, "close" within the noise, "worse" far from it."""
    means = {"base": 10.0, "alike": 10.0, "close": 10.6, "worse": 60.0}
    return {
        name: {seed: chance.normal(mean, 0.4) for seed in range(5, 15)} for name, mean in means.items()
    }


def _run_all(design, errors, choose):
    """Finish one needed run after another; the runs made, and how the comparisons stand at the end."""
    done = {name: {} for name in design.settings}
    while True:
        standing = standings(design, done)
        left = [
            (name, seed)
            for name, seed in in_order(design, needed(design, standing))
            if seed not in done[name]
        ]
        if not left:
            return {name: sorted(seeds) for name, seeds in done.items()}, standing
        name, seed = choose(left)
        done[name][seed] = errors[name][seed]


@pytest.mark.parametrize("trial", range(8))
def test_the_runs_and_the_verdicts_do_not_depend_on_the_order_of_the_runs(trial):
    chance, design = np.random.default_rng(trial), _design()
    errors = _errors(chance)
    first = _run_all(design, errors, lambda left: left[0])
    for choose in (lambda left: left[-1], lambda left: left[chance.integers(len(left))]):
        assert _run_all(design, errors, choose) == first


@pytest.mark.parametrize("trial", range(5))
def test_no_run_is_made_that_no_look_needs(trial):
    design = _design()
    errors = _errors(np.random.default_rng(trial))
    runs, standing = _run_all(design, errors, lambda left: left[0])
    ends = {name: one.decision.seeds for name, one in standing.items()}
    assert ends["worse"] == 3
    assert set(ends.values()) <= set(LOOKS)
    for name, end in ends.items():
        assert runs[name] == list(range(5, 5 + end))
        assert standing[name].ended
    assert len(runs["base"]) == max(ends.values())
    undecided = [name for name, one in standing.items() if one.decision.word == UNDECIDED]
    assert all(ends[name] == 10 for name in undecided)


def test_all_settings_get_a_seed_before_any_gets_the_next():
    design = _design(first_seed=0)
    assert list(in_order(design, {"base": 2, "alike": 1, "close": 2, "worse": 0})) == [
        ("base", 0),
        ("alike", 0),
        ("close", 0),
        ("base", 1),
        ("close", 1),
    ]


def test_a_settled_comparison_needs_no_more_seeds_and_an_open_one_at_most_all():
    design = _design()
    errors = {name: dict(zip(range(5, 8), values, strict=True)) for name, values in {
        "base": [10.0, 10.1, 9.9],
        "alike": [10.1, 9.9, 10.0],
        "close": [5.0, 5.1, 5.0],
        "worse": [20.0, 20.1, 20.0],
    }.items()}  # fmt: skip
    standing = standings(design, errors)
    words = {name: one.decision.word for name, one in standing.items()}
    assert words == {"alike": UNDECIDED, "close": BETTER, "worse": WORSE}
    assert needed(design, standing) == {"base": 4, "alike": 4, "close": 3, "worse": 3}
    assert most(design, standing) == {"base": 10, "alike": 10, "close": 3, "worse": 3}


def test_a_missing_seed_stops_its_comparison_and_no_other():
    """The run of seed 6 failed: later ones do not stand in for it."""
    design = _design()
    errors = _errors(np.random.default_rng(0))
    del errors["worse"][6]
    standing = standings(design, errors)
    assert standing["worse"].decision is None
    assert (standing["worse"].seeds, standing["worse"].ended) == (3, False)
    assert standing["alike"].ended
    assert standing["close"].ended
