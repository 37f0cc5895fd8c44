"""An option that nothing reads is refused, at every level, typed or in a file."""

from pathlib import Path

import pytest
from tiny_run import TINY

from densenet_cli.config.compose import compose, composing, resolved
from densenet_cli.options import UserError
from densenet_cli.sweep import jobs

OVERRIDES = [  # what nothing reads, and what was meant
    ("+epoch=3", "epoch=3: nothing reads such an option; did you mean epochs?"),
    ("+lr=0.1", "did you mean recipe.optimizer.lr?"),
    ("+batch_size=32", "did you mean data.batch_size?"),
    ("+growth_rate=12", "did you mean model.growth_rate?"),
    ("+recipe.lr=0.1", "did you mean recipe.optimizer.lr?"),
    ("+recipe.weight_decay=0.1", "did you mean recipe.optimizer.weight_decay?"),
    ("+recipe.epoch=3", "did you mean recipe.epochs?"),
    ("+recipe.note={a: 1}", "recipe.note={...}: nothing reads"),
    ("+pretrained.weight=x", "did you mean pretrained.weights?"),
    ("+logger.project=x", "logger.project=x: nothing reads it, since no logger is chosen"),
    ("+sweep.job=[]", "did you mean sweep.jobs?"),
    ("+zzz=1", "nothing reads such an option; there is task, epochs"),
]


@pytest.mark.parametrize(("override", "named"), OVERRIDES)
def test_a_key_that_nothing_reads_is_refused(override, named, config):
    with pytest.raises(UserError) as error:
        config(override)
    assert named in str(error.value)


@pytest.mark.parametrize(
    ("override", "better"),
    [
        ("recipe.lr=0.1", "recipe.optimizer.lr=0.1"),
        ("weight_decay=1", "recipe.optimizer.weight_decay=1"),
    ],
)
def test_an_option_of_another_section_is_named(override, better, typed):
    status, message = typed(*TINY, override)
    assert status == 1
    assert f"{override}: there is no such option; did you mean {better}?" in message


FILES = [  # an experiment of one's own, and what is wrong with it
    ("model: {growth_rate: 4}", "experiment: nothing reads options below experiment"),
    ("# @package _global_\nlr: 0.3", "lr=0.3: nothing reads such an option"),
    ("# @package _global_\nrecipe: {lr: 0.3}", "did you mean recipe.optimizer.lr?"),
    ("# @package _global_\nsweep: {job: [seed=1]}", "did you mean sweep.jobs?"),
    (
        "# @package _global_\nm: 4\nrecipe: {k: 8}\nmodel: {depth: '${m}', dropout: '${recipe.k}'}",
        "",
    ),
    ("# @package _global_\nrecipe: {k: 8, dropout: '${.k}', optimizer: {lr: '${..k}'}}", ""),
    ("# @package _global_\nmine: {k: 8}\nmodel: {growth_rate: '${mine.k}', depth: 10}", ""),
]


@pytest.mark.parametrize(("text", "fault"), FILES)
def test_a_file_of_ones_own_may_have_the_same_keys_only(text, fault, tmp_path):
    (tmp_path / "mine/experiment").mkdir(parents=True)
    Path("mine/experiment/own.yaml").write_text(text)
    with composing("mine") as own:
        if not fault:
            resolved(compose([*own, "experiment=own"]))
            return
        with pytest.raises(UserError) as error:
            resolved(compose([*own, "experiment=own"]))
    assert fault in str(error.value)


def test_the_section_of_a_sweep_has_known_keys_only(tmp_path):
    (tmp_path / "mine/sweep").mkdir(parents=True)
    Path("mine/sweep/own.yaml").write_text("name: own\njob: [model=resnet_20]\n")
    with composing("mine") as own, pytest.raises(UserError, match=r"did you mean sweep\.jobs\?"):
        jobs.compose_sweep([*own, "sweep=own"])


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["hydra/launcher=parallel", "+hydra.launcher.jbos=3"], "did you mean hydra.launcher.jobs?"),
        (
            ["hydra.sweeper.max_batch_size=3"],
            "hydra.sweeper.max_batch_size: a sweep has no such option",
        ),
        (["hydra.sweep.subdir=x"], "hydra.sweep.subdir: a sweep has no such option"),
    ],
)
def test_an_option_of_hydras_that_no_sweep_reads_is_refused(overrides, named, typed):
    status, message = typed("--multirun", *TINY, *overrides)
    assert status == 1
    assert named in message


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("model: {depth: 10}", "model.depth=10: no run reads this option of a sweep's file"),
        ("epoch: 1", "epoch=1: no run reads"),
        ("jobs: [seed=1]", "jobs=[seed=1]: no run reads"),
        ("defaults: [override /data: digits]", "data._target_=densenet_cli.data.digits.Digits: no run"),
    ],
)
def test_a_sweeps_file_has_no_options_that_its_runs_do_not_read(text, fault, tmp_path):
    (tmp_path / "mine/sweep").mkdir(parents=True)
    Path("mine/sweep/own.yaml").write_text(f"# @package _global_\n{text}\nsweep: {{name: own}}\n")
    with composing("mine") as own, pytest.raises(UserError) as error:
        jobs.compose_sweep([*own, "sweep=own", "sweep.fail_fast=true"])
    assert fault in str(error.value)


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("+hydra.foo=1", "hydra.foo=1: nothing reads this option of Hydra's"),
        (
            "+hydra.run.dr=x",
            "hydra.run.dr=x: nothing reads this option of Hydra's; did you mean hydra.run.dir?",
        ),
        ("hydra.job.name=x", "a run reads hydra.run.dir and hydra.searchpath alone"),
    ],
)
def test_an_option_of_hydras_that_no_run_reads_is_refused(override, named, typed):
    status, message = typed(*TINY, override)
    assert status == 1
    assert named in message


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["+recipe.schedule.drop=3"], "densenet-run: recipe.schedule.drop=3: there is no such option"),
        (
            ["+recipe.schedule.schedulers=3"],
            "densenet-run: recipe.schedule.schedulers=3: must be a list",
        ),
        (
            ["recipe.optimizer._target_=torch.optim.AdamW"],
            "(~recipe.optimizer.momentum ~recipe.optimizer.nesterov removes them)",
        ),
        (["recipe.optimizer._target_=AdamW"], "recipe.optimizer._target_=torch.optim.AdamW"),
    ],
)
def test_options_of_schedule_and_optimizer_are_named_as_typed(overrides, named, typed):
    status, message = typed(*TINY, *overrides)
    assert status == 1
    assert named in message


@pytest.mark.parametrize(
    "text", ["callbacks: {a: {}}", "job: {chdir: true}", "job: {env_set: {A: b}}", "verbose: true"]
)
def test_a_file_has_no_options_of_hydras_that_no_run_reads(text, typed, tmp_path):
    (tmp_path / "mine/experiment").mkdir(parents=True)
    Path("mine/experiment/own.yaml").write_text(f"# @package _global_\nhydra: {{{text}}}\n")
    status, message = typed("--config-dir=mine", "experiment=own")
    assert status == 1
    assert "nothing reads this option of Hydra's" in message
