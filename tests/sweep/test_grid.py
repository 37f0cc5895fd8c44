"""Overrides -> jobs and their names."""

import pytest

from densenet_cli.config.compose import composing
from densenet_cli.options import UserError
from densenet_cli.sweep import grid
from densenet_cli.sweep.folders import job_names, sweep_name


@pytest.fixture
def expand():
    def of(lines, typed, seeds=None):
        with composing():
            return grid.expand(lines, typed, seeds)

    return of


def test_a_grid_is_every_combination_in_the_order_typed(expand):
    jobs = expand(
        [""], ["model=densenet_bc", "model.growth_rate=12,24,40", "model.compression=0.5,1.0"]
    )
    assert len(jobs) == 6
    assert jobs[0] == ["model=densenet_bc", "model.growth_rate=12", "model.compression=0.5"]
    assert jobs[1] == ["model=densenet_bc", "model.growth_rate=12", "model.compression=1.0"]
    assert jobs[5] == ["model=densenet_bc", "model.growth_rate=40", "model.compression=1.0"]


def test_hydras_own_sweeper_makes_the_same_jobs(expand):
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    words = [
        "model=resnet_20,densenet_40",
        "model.depth=range(10,30,6)",
        "+x=choice(a,'b c')",
        "epochs=3",
    ]
    overrides = OverridesParser.create().parse_overrides(words)
    (expected,) = BasicSweeper.split_arguments(overrides, None)
    assert expand([""], words) == expected


def test_groups_are_swept_by_pattern(expand):
    jobs = expand([""], ["model=glob(preact_resnet_*)"])
    names = {"preact_resnet_110", "preact_resnet_164", "preact_resnet_1001"}
    assert {job[0] for job in jobs} == {f"model={name}" for name in names}


def test_typed_overrides_replace_those_of_a_line(expand):
    lines = ["model=resnet_20 epochs=300", "model=densenet_bc model.growth_rate=12,24 epochs=300"]
    assert expand(lines, ["epochs=1", "model.growth_rate=4"]) == [
        ["model=resnet_20", "epochs=1", "model.growth_rate=4"],
        ["model=densenet_bc", "epochs=1", "model.growth_rate=4"],
    ]


def test_seeds_repeat_each_job(expand):
    jobs = expand([""], ["model.growth_rate=12,24", "seed=7"], seeds=3)
    assert [job[-1] for job in jobs] == ["seed=7", "seed=8", "seed=9"] * 2
    assert expand(["seed=4,5"], [], seeds=2) == [["seed=0"], ["seed=1"]]
    assert expand([""], ["epochs=1"], seeds=2) == [["epochs=1", "seed=0"], ["epochs=1", "seed=1"]]


@pytest.mark.parametrize("seeds", [0, -1, "many", 1.5, True])
def test_seeds_must_be_a_whole_number(expand, seeds):
    with pytest.raises(UserError, match=r"seeds=.*whole number.*seeds=5"):
        expand([""], [], seeds)


def test_two_grids_of_seeds_are_refused(expand):
    with pytest.raises(UserError, match="type only one of the two"):
        expand([""], ["seed=1,2"], seeds=2)
    with pytest.raises(UserError, match=r"seed=.*seeds=2"):
        expand([""], ["seed=a"], seeds=2)


def test_an_interval_is_for_a_search(expand):
    with pytest.raises(UserError, match="hydra/sweeper=optuna"):
        expand([""], ["recipe.optimizer.lr=interval(0.1,1)"])


def test_jobs_are_named_by_what_varies():
    jobs = [
        ["model=densenet_bc", f"model.growth_rate={k}", f"model.compression={c}", f"seed={s}"]
        for k in (12, 24)
        for c in (0.5, 1.0)
        for s in (0, 1)
    ]
    names = job_names(jobs)
    assert names[5] == "growth_rate=24,compression=0.5,seed=1"
    assert len(set(names)) == 8


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (["[6,12]", "[8,8,8]"], ["block_config=6-12", "block_config=8-8-8"]),
        (["a/b", "../c"], ["block_config=a-b", "block_config=..-c"]),
        (["'x y'", "$(rm)"], ["block_config=x-y", "block_config=rm"]),
        (["-1", "1"], ["block_config=-1", "block_config=1"]),
        (["A", "é"], ["block_config=A", "block_config="]),
    ],
)
def test_names_are_safe_for_shells_and_file_systems(values, names):
    assert job_names([[f"model.block_config={value}"] for value in values]) == names


def test_names_that_would_be_equal_get_a_digest():
    one, two = job_names([["data.root=a/b"], ["data.root=a b"]])
    assert one != two
    assert one.startswith("root=a-b~")


def test_long_names_are_shortened_and_stay_different():
    jobs = [[f"model.name={'x' * 300}{number}"] for number in range(3)]
    names = job_names(jobs)
    assert len(set(names)) == 3
    assert max(map(len, names)) <= 130


def test_keys_with_the_same_last_part_are_written_in_full():
    jobs = [[f"model.dropout={rate}", f"recipe.dropout={rate}"] for rate in (0, 0.2)]
    assert job_names(jobs)[1] == "model.dropout=0.2,recipe.dropout=0.2"


def test_a_wider_grid_belongs_to_the_same_sweep():
    choices = {"model": "densenet_bc_100", "data": "cifar10"}
    narrow = ["model.growth_rate=12,24"]
    wide = ["model.growth_rate=12,24,40", "model.compression=0.5,1.0", "seed=3"]
    name = sweep_name(narrow, ["model.growth_rate"], choices)
    assert name == "densenet_bc_100-cifar10"
    assert sweep_name(wide, ["model.growth_rate", "model.compression"], choices) == name
    other = sweep_name([*narrow, "epochs=5", "recipe=one_cycle"], ["model.growth_rate"], choices)
    assert other == "densenet_bc_100-cifar10-epochs=5-one_cycle"
    swept = sweep_name(["model=a,b"], ["model"], choices)
    assert swept == "cifar10"
