"""seeds=until_decided: refused options, which setting is the baseline, what sweep.yaml keeps."""

import dataclasses
import functools
import shlex

import pytest
import yaml
from omegaconf import OmegaConf
from tiny_run import TINY

from densenet_cli.config.compose import compose, composing, resolved
from densenet_cli.config.overrides import with_quoted_paths
from densenet_cli.options import UserError
from densenet_cli.record.identity import identity
from densenet_cli.record.sweep_file import read_sweep
from densenet_cli.sweep import jobs
from densenet_cli.sweep.decide.comparisons import comparisons
from densenet_cli.sweep.decide.options import overrides

WORDS = ["seeds=until_decided", "sweep.baseline=model.growth_rate=4"]


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["sweep.baseline=null"], "sweep.baseline=null: seeds=until_decided compares all other"),
        (["sweep.most_seeds=2"], "sweep.most_seeds=2: must be from 3, the seeds at the first look"),
        (["sweep.first_seeds=1"], "sweep.first_seeds=1: must be a whole number, 2 or more"),
        (["sweep.margin=0"], "sweep.margin=0: must be a number above 0"),
        (["hydra/sweeper=optuna"], "seeds=until_decided: is for grids, not for a search"),
        (["seed=0,1"], "seed=: has several values, and seeds=until_decided finds out"),
        (["seeds=3"], "sweep.baseline=model.growth_rate=4: only seeds=until_decided reads it"),
        (["seeds=often"], "seeds=often: must be a whole number, or until_decided"),
    ],
)
def test_options_that_cannot_decide_are_one_message(words, answer):
    typed = [*TINY, "model.growth_rate=4,5", *with_quoted_paths(WORDS), *words]
    with composing(), pytest.raises(UserError) as error:
        jobs.sweep_options(typed)
    assert answer in str(error.value)
    assert "\n" not in str(error.value)


JOBS = shlex.quote("sweep.jobs=['recipe=one_cycle','recipe=one_cycle recipe.label_smoothing=0.1']")


@pytest.mark.parametrize(
    ("varying", "baseline", "answer"),
    [
        ("model.growth_rate=4,5", "model.growth_rate=4", "growth_rate=4"),
        ("model.growth_rate=4,5", "[model.depth=10,model.growth_rate=5]", "growth_rate=5"),
        ("model.compression=0.5,1.0", "model.compression=1", "compression=1.0"),
        ("model=resnet_20,densenet_bc_40", "model.growth_rate=12", "model=densenet_bc_40"),
        ("model.growth_rate=4,5", "model.growth_rate=6", "=6: no setting of the sweep has it; for"),
        ("model.growth_rate=4,5", "model=resnet_2", "=resnet_2: no setting of the sweep has it"),
        ("model.growth_rate=4,5", "data=digits", "2 of the settings have it (growth_rate=4, growth"),
        ("model.growth_rate=4", "data=digits", "the sweep has only one; type several"),
        ("model.growth_rate=4 data.seed=1,2", "data=digits", "data.seed=2: makes runs that differ"),
        (JOBS, "recipe=one_cycle", "default"),
        (JOBS, "recipe.label_smoothing=0.1", "label_smoothing=0.1"),
        ("data=digits,svhn", "data=digits", "data=svhn is tested on other images than the baseline"),
        *(
            (f"data=image_table data.{name}=x,y", f"data.{name}=x", f"{name}=y is tested on")
            for name in ("table", "images", "test_table")
        ),
    ],
)
def test_the_baseline_is_the_setting_that_its_overrides_leave_as_it_is(varying, baseline, answer):
    sweep = _composed_sweep(varying)
    cfg = OmegaConf.merge(sweep.cfg, {"sweep": {"baseline": baseline}})
    with composing():
        try:
            found = comparisons(dataclasses.replace(sweep, cfg=cfg)).design.baseline
        except UserError as error:
            found = str(error)
    assert answer in found


@functools.cache
def _composed_sweep(varying):
    tiny = [word for word in TINY if not varying.startswith("model=") or not word.startswith("model.")]
    counts = ["sweep.first_seeds=2", "sweep.most_seeds=2", "sweep.baseline=any"]
    with composing():
        return jobs.compose_sweep([*tiny, "seeds=until_decided", *counts, *shlex.split(varying)])


def test_overrides_are_separated_by_commas_or_spaces():
    lists = "[recipe.schedule.fractions=[0.5,0.75],+model.x=1]"
    assert overrides(lists) == ["recipe.schedule.fractions=[0.5,0.75]", "+model.x=1"]
    assert overrides("model=a model.depth=3") == ["model=a", "model.depth=3"]
    assert overrides(None) == []


def test_how_a_sweep_is_decided_is_no_part_of_its_runs():
    with composing():
        plain = resolved(compose(TINY))
        asked = resolved(compose([*TINY, *with_quoted_paths(WORDS), "sweep.margin=0.3"]))
    assert identity(asked) == identity(plain)
    assert asked == plain


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("looks", [4, 3], "until_decided.looks=[4,3]: must be whole numbers of 2 or more, ascending"),
        ("margin", -1, "until_decided.margin=-1: must be a number"),
        ("baseline", "c", "has an until_decided whose baseline is not one of two settings or more"),
        ("settings", 5, "until_decided.settings=5: must be texts by name"),
        ("more", 5, "has an until_decided without the keys baseline, settings, first_seed"),
    ],
)
def test_a_damaged_sweep_file_is_one_message(name, value, rule, tmp_path):
    content = {"baseline": "a", "settings": {"a": "0", "b": "1"}, "first_seed": 0, "looks": [3]}
    content |= {"level": 0.05, "margin": None, name: value}
    whole = {"commands": [], "jobs": [], "search": False, "until_decided": content}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(whole))
    with pytest.raises(UserError) as error:
        read_sweep(tmp_path)
    assert rule in str(error.value)


@pytest.mark.parametrize(
    ("content", "words", "answer"),
    [
        ("seeds: until_decided\nsweep: {baseline: seed=0}", [], "seeds=until_decided: is asked for by"),
        ("sweep: {most_seeds: 2}", WORDS, "sweep.most_seeds: the files of the experiments have"),
    ],
)
def test_experiments_are_decided_together_or_not_at_all(content, words, answer, tmp_path):
    (tmp_path / "mine/experiment").mkdir(parents=True)
    own = "# @package _global_\ndefaults: [quickstart, _self_]\n"
    (tmp_path / "mine/experiment/own.yaml").write_text(f"{own}model: {{depth: 10}}\n{content}\n")
    counts = ["sweep.first_seeds=2"] if words else []
    typed = ["experiment=own,quickstart", *with_quoted_paths(words), *counts]
    with composing("mine") as folder, pytest.raises(UserError) as error:
        comparisons(jobs.compose_sweep([*folder, *typed]))
    assert answer in str(error.value)
