"""Runs become settings: only finished runs are averaged, and titles have the options that differ."""

from __future__ import annotations

from pathlib import Path

import pytest
from example_record import RESNET, fields

from densenet_cli.options import UserError
from densenet_cli.results.records import Run
from densenet_cli.results.settings import data_name, settings

ONE_CYCLE = {
    "_target_": "torch.optim.lr_scheduler.OneCycleLR",
    "max_lr": 0.1,
    "pct_start": 0.3,
    "cycle_momentum": False,
}


def run(test_error=None, /, **options):
    return Run(Path("run"), fields(test_error, **options))


def titles(*runs):
    return [setting.title for setting in settings(runs)]


def test_mean_and_sample_standard_deviation_over_seeds():
    (setting,) = settings([run(4.4, seed=0), run(4.5, seed=1), run(4.9, seed=2)])
    # By hand: mean 13.8 / 3; squares 0.04 + 0.01 + 0.09 = 0.14, over 2, root.
    assert setting.n == 3
    assert setting.mean("error") == pytest.approx(4.6)
    assert setting.std("error") == pytest.approx(0.2645751)
    assert setting.mean("error_best") == pytest.approx(4.4)
    assert setting.values("parameters") == [769162] * 3
    assert setting.std("parameters") == 0
    assert setting.best_on_test


def test_one_run_has_no_deviation_and_no_run_has_no_mean():
    (setting,) = settings([run(4.5)])
    assert (setting.mean("error"), setting.std("error")) == (4.5, None)
    (setting,) = settings([run(4.5, state="failed")])
    assert (setting.n, setting.mean("error"), setting.std("error")) == (0, None, None)
    assert not setting.best_on_test


@pytest.mark.parametrize("state", ["failed", "interrupted", "pruned", "running"])
def test_unfinished_runs_are_counted_and_never_averaged(state):
    (setting,) = settings([run(4.5, seed=0), run(99.0, seed=1, state=state)])
    assert setting.mean("error") == 4.5
    assert setting.counts == {"done": 1, "killed" if state == "running" else state: 1}


def test_the_validation_error_is_that_of_the_epoch_tested():
    record = fields()
    record["results"] |= {"validation_error_last": 6.0, "validation_error_best": 5.0}
    (setting,) = settings([Run(Path("run"), record)])
    assert setting.mean("validation_error") == 6.0
    record["results"]["reported"] = "best"
    (setting,) = settings([Run(Path("run"), record)])
    assert setting.mean("validation_error") == 5.0


def test_a_title_has_the_options_that_differ_and_no_others():
    assert titles(run()) == ["DenseNet-BC (L=100, k=12)"]
    assert titles(run(model__compression=0.5), run(model__compression=0.8)) == [
        "DenseNet-BC (L=100, k=12), θ=0.5",
        "DenseNet-BC (L=100, k=12), θ=0.8",
    ]
    assert titles(run(epochs=5), run(epochs=300, recipe__batch_size=128)) == [
        "DenseNet-BC (L=100, k=12), 5 epochs",
        "DenseNet-BC (L=100, k=12), 300 epochs",
    ]


def test_a_title_has_an_option_whose_class_has_no_other_that_acts():
    lenet = {"_target_": "densenet_cli.models.history.lenet.LeNet5", "pooling": "subsampling"}
    found = titles(run(model=lenet), run(model=lenet | {"pooling": "max"}))
    assert found == ["LeNet-5", "LeNet-5, pooling=max"]


def test_a_title_has_no_option_of_another_kind_of_network_or_schedule():
    assert titles(run(), run(model=RESNET)) == ["DenseNet-BC (L=100, k=12)", "ResNet-110"]
    assert titles(run(), run(recipe__schedule=ONE_CYCLE)) == [
        "DenseNet-BC (L=100, k=12), step schedule",
        "DenseNet-BC (L=100, k=12), one-cycle schedule",
    ]
    inverse_time = {"_target_": "densenet_cli.training.schedules.inverse_time", "decay": 0.01}
    assert titles(run(), run(recipe__schedule=inverse_time))[1].endswith(", inverse-time schedule")
    faster = run(recipe__schedule={**ONE_CYCLE, "max_lr": 0.2}, recipe__optimizer__lr=0.2)
    assert titles(run(recipe__schedule=ONE_CYCLE), faster) == [
        "DenseNet-BC (L=100, k=12), lr=0.1",
        "DenseNet-BC (L=100, k=12), lr=0.2",
    ]


def test_a_title_has_the_name_of_a_recipe_and_what_was_changed_in_it():
    one = run(overrides=["recipe=paper_cifar"])
    other = run(recipe__schedule=ONE_CYCLE, overrides=["recipe=one_cycle"])
    changed = run(
        recipe__schedule={**ONE_CYCLE, "max_lr": 0.2},
        recipe__optimizer__lr=0.2,
        overrides=["recipe=one_cycle", "recipe.optimizer.lr=0.2"],
    )
    assert titles(one, other) == [
        "DenseNet-BC (L=100, k=12), paper_cifar",
        "DenseNet-BC (L=100, k=12), one_cycle",
    ]
    assert titles(one, other, changed) == [
        "DenseNet-BC (L=100, k=12), paper_cifar, lr=0.1",
        "DenseNet-BC (L=100, k=12), one_cycle, lr=0.1",
        "DenseNet-BC (L=100, k=12), one_cycle, lr=0.2",
    ]
    assert titles(one, run(recipe__schedule=ONE_CYCLE)) == titles(run(), other)


def test_of_several_runs_of_a_seed_the_first_to_end_counts():
    late = run(9.0, ended="2026-11-22T12:00:00+01:00")
    first = run(4.0, ended="2026-11-22T10:30:00+00:00")
    unfinished = run(1.0, state="failed", ended="2026-11-20T00:00:00+00:00")
    undated, other = run(8.0), run(5.0, seed=1)
    (found,) = settings([undated, late, unfinished, first, other])
    assert found.done == [first, other]
    assert found.repeats == {late: first, undated: first}


def test_options_without_effect_on_results_make_no_new_setting():
    here = run(data__root="here")
    there = run(data__root="there", data__num_workers=4, seed=1)
    assert [setting.n for setting in settings([here, there])] == [2]


def test_options_that_differ_are_listed():
    first, second = settings([run(model__growth_rate=12), run(model__growth_rate=24)])
    assert first.options == {"model.growth_rate": 12}
    assert second.options == {"model.growth_rate": 24}


@pytest.mark.parametrize(
    ("target", "augment", "name"),
    [
        ("Cifar10", True, "C10+"),
        ("Cifar100", False, "C100"),
        ("Svhn", False, "SVHN"),
        ("Digits", True, "digits+"),
        ("Mnist", False, "MNIST"),
        ("FashionMnist", True, "Fashion-MNIST+"),
    ],
)
def test_data_in_the_notation_of_the_papers(target, augment, name):
    options = {"data___target_": f"densenet_cli.data.{target}", "data__augment": augment}
    (setting,) = settings([run(**options)])
    assert setting.data == name


def test_imagenet_is_known_by_its_images():
    record = fields(data___target_="densenet_cli.data.image_folder.ImageFolder")
    record["data"] |= {"name": "image_folder", "num_classes": 1000}
    record["data"]["sizes"]["train"] = 1_281_167
    assert settings([Run(Path("run"), record)])[0].data == "ImageNet+"
    record["data"]["sizes"]["train"] = 1_281_166
    assert settings([Run(Path("run"), record)])[0].data == "image_folder+"


def test_grouping_averages_over_all_other_options_and_lists_them():
    runs = [
        run(5.0, model__growth_rate=12, model__compression=0.5),
        run(5.2, model__growth_rate=12, model__compression=1.0, seed=1),
        run(4.0, model__growth_rate=24, model__compression=0.5),
    ]
    twelve, twenty_four = settings(runs, ["model.growth_rate"])
    assert (twelve.title, twelve.n, twelve.averaged_over) == ("k=12", 2, ("model.compression",))
    assert twelve.mean("error") == pytest.approx(5.1)
    assert twelve.family == "DenseNet-BC, DenseNet-B"
    assert (twenty_four.title, twenty_four.mean("error")) == ("k=24", 4.0)
    assert twenty_four.averaged_over == ()


def test_grouping_by_family_and_by_an_option_that_some_runs_lack():
    runs = [run(), run(model__depth=40), run(model=RESNET)]
    assert [(s.title, s.n) for s in settings(runs, ["family"])] == [("DenseNet-BC", 2), ("ResNet", 1)]
    named = [setting.title for setting in settings(runs, ["model.growth_rate"])]
    assert named == ["k=12", "without model.growth_rate"]


def test_an_unknown_option_to_group_by_is_refused_with_a_known_one():
    with pytest.raises(
        UserError, match=r"no run has such an option; .* --group-by=model\.growth_rate$"
    ):
        settings([run()], ["growth_rate"])


def on(digest, test_error=4.5, **options):
    """A finished run on images with this digest; None: its record tells none."""
    record = fields(test_error, **options)
    if digest:
        record["data"] |= {"digest": digest}
    return Run(Path("run"), record)


def test_runs_on_different_images_are_not_averaged():
    one, other, old = on("aaaaaaaaaaaa", 4.0), on("bbbbbbbbbbbb", 6.0, seed=1), on(None, 5.0, seed=2)
    found = settings([one, other, old])
    assert [setting.mean("error") for setting in found] == [4.0, 6.0, 5.0]
    assert [setting.title.partition(", images ")[2] for setting in found] == [
        "aaaaaa",
        "bbbbbb",
        "unknown",
    ]


def test_unknown_images_may_be_the_same():
    (setting,) = settings([on("aaaaaaaaaaaa", 4.0), on(None, 5.0, seed=1)])
    assert (setting.mean("error"), setting.title) == (4.5, "DenseNet-BC (L=100, k=12)")
    (setting,) = settings([on("aaaaaaaaaaaa", 4.0), on("aaaaaaaaaaaa", 5.0, seed=1)])
    assert setting.mean("error") == 4.5


def test_titles_distinguish_networks_trained_on_different_images():
    runs = [on("aaaaaaaaaaaa"), on("bbbbbbbbbbbb", model=RESNET)]
    assert titles(*runs) == ["DenseNet-BC (L=100, k=12), images aaaaaa", "ResNet-110, images bbbbbb"]
    cifar100 = {"data___target_": "densenet_cli.data.cifar.Cifar100"}
    assert titles(runs[0], on("bbbbbbbbbbbb", **cifar100)) == 2 * ["DenseNet-BC (L=100, k=12)"]


def test_a_group_over_different_images_lists_images_as_averaged_over():
    runs = [on("aaaaaaaaaaaa"), on("bbbbbbbbbbbb", seed=1)]
    (setting,) = settings(runs, ["network"])
    assert setting.averaged_over == ("images",)
    (setting,) = settings([on("aaaaaaaaaaaa"), on("bbbbbbbbbbbb")], ["network"])
    assert setting.n == 2  # one seed, but not one run
    assert [setting.title for setting in settings(runs, ["images"])] == [
        "images aaaaaa",
        "images bbbbbb",
    ]


@pytest.mark.parametrize(
    ("kind", "name"),
    [("image_table.ImageTable", "image_table"), ("image_folder.ImageFolder", "image_folder")],
)
def test_a_run_that_failed_before_it_read_its_images_has_the_name_of_the_others(kind, name):
    record = fields(None, data___target_=f"densenet_cli.data.{kind}")
    record["data"] = {}
    assert data_name(Run(Path("run"), record)) == f"{name}+"
