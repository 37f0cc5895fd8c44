"""Which runs are the same run."""

import copy
import hashlib
import inspect
import json
from pathlib import Path

import pytest
import yaml
from hydra.utils import get_object

from densenet_cli.config.compose import composing
from densenet_cli.record.identity import NUMBER_OR_SHARE, flat, identity, without_effect
from densenet_cli.results.compare import differences
from densenet_cli.sweep import jobs


def test_an_option_that_older_records_lack_leaves_their_identity_as_it_was():
    before = {"model": {"depth": 40}}
    assert identity({"model": {"depth": 40, "implementation": "auto"}}) == identity(before)
    assert identity({"model": {"depth": 40, "implementation": "reference"}}) != identity(before)


def test_a_run_without_a_budget_is_the_run_that_it_was_before_there_were_any():
    assert identity({"epochs": 300, "budget": None}) == identity({"epochs": 300})
    assert identity({"epochs": 300, "budget": 1e15}) != identity({"epochs": 300})
    assert identity({"budget": 1e15}) == identity({"budget": 10**15})


def test_what_computes_a_network_is_no_part_of_a_run_s_identity():
    fused, reference = ({"trainer": {"implementation": name}} for name in ("fused", "reference"))
    assert identity(fused) == identity(reference) == identity({})


OLDER = {  # networks of records that lack the newer arguments, and what these are in such networks
    "densenet.DenseNet": {"bottleneck": True, "bn_size": 4, "init": "fan_out"},
    "resnet.ResNet": {"depth": 20, "bias": False, "init": "fan_out"},
    "preact_resnet.PreActResNet": {"stride": "3x3", "first_activation": "in_branch", "init": "fan_out"},
    "wide_resnet.WideResNet": {"depth": 16, "init": "fan_out"},
}
OTHER = {"bn_size": 2, "bias": True, "stride": "first", "init": "fan_in"}


@pytest.mark.parametrize("name", OLDER)
def test_newer_arguments_of_networks_leave_earlier_runs_as_they_were(name):
    target = f"densenet_cli.models.{name}"
    parameters = inspect.signature(get_object(target)).parameters
    added = {key: value for key, value in OLDER[name].items() if key not in ("bottleneck", "depth")}
    assert {key: parameters[key].default for key in added} == added  # so an old record builds the same
    before = {"_target_": target, **{key: OLDER[name][key] for key in OLDER[name].keys() - added}}
    assert identity({"model": {**before, **added}}) == identity({"model": before})
    for key in added.keys() & OTHER:
        assert identity({"model": {**before, key: OTHER[key]}}) != identity({"model": before})


def test_arguments_that_a_network_does_not_use_make_no_other_run():
    for target, used, unused in (
        ("preact_resnet.PreActResNet", {"block": "basic"}, {"stride": "first"}),
        ("preact_resnet.PreActResNet", {"block": "bottleneck"}, {"first_activation": "before_split"}),
        ("densenet.DenseNet", {"bottleneck": False}, {"bn_size": 8}),
    ):
        model = {"_target_": f"densenet_cli.models.{target}", **used}
        assert identity({"model": {**model, **unused}}) == identity({"model": model})
    basic = {"_target_": "densenet_cli.models.preact_resnet.PreActResNet", "block": "basic"}
    assert identity({"model": {**basic, "first_activation": "before_split"}}) != identity(
        {"model": basic}
    )


def test_arguments_of_other_networks_are_theirs_whatever_their_name_and_value():
    mine = {"_target_": "mine.Net"}
    for name, value in (("bias", False), ("init", "fan_out"), ("bn_size", 4), ("stride", "3x3")):
        assert identity({"model": {**mine, name: value}}) != identity({"model": mine})


@pytest.mark.parametrize("name", NUMBER_OR_SHARE)
def test_one_batch_is_not_the_whole_epoch(name):
    one, every = ({"trainer": {name: value}} for value in (1, 1.0))
    assert identity(one) != identity(every)
    assert identity({"trainer": {name: 0}}) == identity({"trainer": {name: 0.0}})
    assert differences(flat(one), flat(every)) == [(f"trainer.{name}", "1", "1.0")]


def test_other_numbers_are_equal_however_they_are_typed():
    assert identity({"model": {"compression": 1}}) == identity({"model": {"compression": 1.0}})


def test_a_fraction_and_a_number_are_two_runs():
    with composing():
        sweep = jobs.compose_sweep(["++trainer.limit_train_batches=1,1.0"])
    assert len(sweep.jobs) == 2


def test_the_identities_of_published_runs_do_not_change():
    folder = Path(__file__).parents[2] / "outputs/study"
    configs = [json.loads(path.read_text())["config"] for path in sorted(folder.glob("*/run.json"))]
    text = " ".join(identity(config) for config in configs)
    assert hashlib.sha256(text.encode()).hexdigest()[:12] == "5059778570cc"


@pytest.mark.parametrize(
    ("name", "since"),
    [
        ("model=densenet_bc,depth=16,growth_rate=12,seed=0", []),
        # conf/model/preact_resnet_110.yaml has since become the network of the paper
        ("model=preact_resnet_110,depth=20,seed=0", ["model.first_activation=in_branch"]),
        ("model=resnet_20,seed=0", []),
    ],
)
def test_what_was_typed_for_a_published_run_still_names_that_run(name, since, config, monkeypatch):
    monkeypatch.delenv("DENSENET_DATA", raising=False)
    folder = Path(__file__).parents[2] / "outputs/study" / name
    published = json.loads((folder / "run.json").read_text())["config"]
    now = config(*yaml.safe_load((folder / "overrides.yaml").read_text()), *since)
    new = flat(now).keys() - flat(published).keys() - {*without_effect(now)}
    assert not new, (
        f"{new}: new options, by which every finished run becomes another one and is trained again; "
        "name them in WITHOUT_EFFECT_AT in record/identity.py, with the value at which nothing changes"
    )
    assert identity(now) == identity(published)


def test_options_of_the_recipe_at_their_defaults_leave_a_run_what_it_was_and_no_others_do(config):
    plain = config("recipe=resnet")
    before = copy.deepcopy(plain)
    for name in ("steps", "warm_up", "reset_momentum_at_drops"):
        del before["recipe"][name]
    assert identity(before) == identity(plain)
    others = [
        config("recipe=resnet", typed)
        for typed in (
            "recipe.steps=1000",
            "recipe.reset_momentum_at_drops=true",
            "recipe.warm_up={rate:0.01,steps:400}",
            "recipe.warm_up={rate:0.02,steps:400}",
            "recipe.warm_up={rate:0.01,epochs:400}",
        )
    ]
    assert len({identity(one) for one in (plain, *others)}) == 6


def test_a_pack_of_the_files_as_they_are_makes_no_other_run():
    before = {"data": {"root": "photos"}}

    def packed(pack, size, quality):
        options = {"pack": pack, "pack_size": size, "pack_quality": quality}
        return identity({"data": {"root": "photos", **options}})

    assert packed(False, 256, 90) == packed(False, 64, "raw") == identity(before)
    assert packed(True, None, 90) == packed("/disk/a.pack", None, 80) == identity(before)
    assert packed(True, 256, 90) == packed("/disk/a.pack", 256, 90)
    others = [(256, 90), (256, 80), (200, 90), (256, "raw"), (None, "raw")]
    assert len({packed(True, *other) for other in others} | {identity(before)}) == 6


def test_a_loss_that_is_typed_where_null_means_it_makes_no_other_run():
    def run(loss, **data):
        return identity({"recipe": {"loss": loss}, "data": {"table": "a.csv", **data}})

    several, single = {"labels": "multi"}, {"labels": "single"}
    assert run("cross_entropy") == run(None)
    assert run("cross_entropy", **single) == run(None, **single)
    assert run("binary_cross_entropy", **several) == run(None, **several)
    assert run("binary_cross_entropy", **single) != run(None, **single)
