"""A setting is compared with a published error only if data, augmentation and protocol agree."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
from example_record import fields

from densenet_cli.results.published import compare, published
from densenet_cli.results.records import Run
from densenet_cli.results.settings import settings

# arXiv:1608.06993v5, table 2: the DenseNets, as (choice of model, data) -> error in percent.
TABLE_2 = {
    "densenet_40": (7.00, 5.24, 27.55, 24.42, 1.79),
    "densenet_100": (5.77, 4.10, 23.79, 20.20, 1.67),
    "densenet_100_24": (5.83, 3.74, 23.42, 19.25, 1.59),
    "densenet_bc_100": (5.92, 4.51, 24.15, 22.27, 1.76),
    "densenet_bc_250": (5.19, 3.62, 19.64, 17.60, 1.74),
    "densenet_bc_190": (None, 3.46, None, 17.18, None),
}
COLUMNS = {
    "C10": ("data=cifar10 data.augment=false", 50_000),
    "C10+": ("data=cifar10", 50_000),
    "C100": ("data=cifar100 data.augment=false", 50_000),
    "C100+": ("data=cifar100", 50_000),
    "SVHN": ("data=svhn recipe=paper_svhn", 598_388),
}
CELLS = [
    (model, column, error)
    for model, errors in TABLE_2.items()
    for column, error in zip(COLUMNS, errors, strict=True)
]


def setting_of(config, error=5.0, train=50_000, **data):
    record = fields(error)
    record["config"] = copy.deepcopy(config)
    record["results"]["reported"] = config["recipe"]["report"]
    record["data"]["sizes"]["train"] = train
    record["data"] |= data
    return settings([Run(Path("run"), record)])[0]


@pytest.mark.parametrize(("model", "column", "error"), CELLS)
def test_the_recipes_of_densenet_run_match_table_2(config, model, column, error):
    words, train = COLUMNS[column]
    setting = setting_of(config(f"model={model}", *words.split()), train=train)
    found = compare(setting)
    assert setting.data == column
    if error is None:
        assert (found.published, found.reason) == (None, "there is none for this network and data")
        return
    assert found.published is not None, found.reason
    assert found.published.error == error
    assert found.difference == pytest.approx(5.0 - error)
    assert "table 2" in found.published.source


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["epochs=5"], "5 epochs, the paper 300"),
        (["budget=300epochs"], "budget 300epochs"),
        (["recipe.batch_size=128"], "batches of 128, the paper 64"),
        (["recipe.optimizer.lr=0.2"], "lr=0.2, the paper 0.1"),
        (["recipe.optimizer.weight_decay=5e-4"], "weight_decay=0.0005, the paper 0.0001"),
        (["recipe.optimizer.nesterov=false"], "nesterov=false, the paper true"),
        (["recipe.optimizer._target_=torch.optim.AdamW"], "AdamW"),
        (["recipe.label_smoothing=0.1"], "label_smoothing=0.1, the paper 0.0"),
        (["recipe.mixup=0.2"], "mixup=0.2"),
        (["recipe.gradient_clip=1.0"], "gradient_clip=1.0, the paper null"),
        (["recipe.ema_decay=0.999"], "ema_decay=0.999, the paper null"),
        (["recipe.report=best"], "report=best, the paper last"),
        (["recipe.schedule.fractions=[0.5,0.8]"], "fractions=[0.5,0.8], the paper [0.5,0.75]"),
        (["+recipe.optimizer.dampening=0.5"], "dampening=0.5"),
        (["model.dropout=0.2"], "dropout=0.2, the paper 0.0"),
        (["model.init_channels=16"], "init_channels=16, the paper null"),
        (["model.compression=0.6"], "θ=0.6, the paper 0.5"),
        (["data.normalise=scale"], "normalise=scale, the paper mean_std"),
        (["data.validation=5000"], "validation=5000, the paper 0"),
        (["++trainer.limit_train_batches=80"], "limit_train_batches=80"),
        (["++trainer.accumulate_grad_batches=2"], "accumulate_grad_batches=2"),
    ],
)
def test_a_difference_from_the_protocol_is_named_and_prevents_a_comparison(config, words, reason):
    found = compare(setting_of(config(*words)))
    assert (found.published, found.difference) == (None, None)
    assert reason in found.reason


def test_another_recipe_is_described_in_a_few_words(config):
    reason = compare(setting_of(config("recipe=one_cycle", "epochs=5"))).reason
    assert (
        reason == "5 epochs, the paper 300; weight_decay=0.0005, the paper 0.0001; one-cycle schedule"
    )


def test_fewer_training_images_are_named(config):
    assert (
        compare(setting_of(config(), train=49_999)).reason == "49999 training images, the paper 50000"
    )


def test_options_without_effect_on_results_may_differ(config):
    words = [
        "seed=3",
        "data.root=elsewhere",
        "data.num_workers=2",
        "trainer=ddp",
        "checkpoint_minutes=1",
    ]
    assert compare(setting_of(config(*words))).published.error == 4.51


def test_an_option_that_the_paper_does_not_state_may_have_any_value(config):
    words = ["model=resnet_20", "recipe=he_2015", "data.normalise=pixel_mean"]
    for init in ("fan_in", "fan_out"):
        assert compare(setting_of(config(*words, f"model.init={init}"))).published.error == 8.75
    reason = compare(setting_of(config(*words, "model.bias=true"))).reason
    assert reason == "bias=true"


def test_imagenet_with_its_top5_error(config):
    facts = {"name": "image_folder", "num_classes": 1000}
    words = ["model=densenet_121", "data=image_folder", "data.root=x", "recipe=paper_imagenet"]
    reason = compare(setting_of(config(*words), train=1_281_167, **facts)).reason
    assert reason == "antialias=true, the paper false"
    words.append("data.antialias=false")
    found = compare(setting_of(config(*words), train=1_281_167, **facts)).published
    assert (found.error, found.top5) == (25.02, 7.71)
    ten = config(*words, "data.test_crops=10")
    found = compare(setting_of(ten, train=1_281_167, **facts)).published
    assert (found.error, found.top5) == (23.61, 6.66)
    words[0] = "model=resnet_50"
    found = compare(setting_of(config(*words), train=1_281_167, **facts)).published
    assert (found.error, found.top5) == (24.01, 7.02)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("model=resnet_110 recipe=resnet", "164 epochs, the paper "),
        ("model=resnet_110 recipe=resnet", "no warm-up, the paper "),
        (
            "model=resnet_110_stochastic_depth model.shortcut=A recipe=resnet epochs=500",
            "shortcut=A, the paper pool",
        ),
        ("model=wide_resnet_28_10 recipe=wide_resnet", "border=zeros, the paper reflect"),
        ("model=preact_resnet_1001 model.stride=3x3", "stride=3x3, the paper first"),
        (
            "model=preact_resnet_164 data.augment=false",
            "Huang et al. 2017, who ran it, do not say by which recipe",
        ),
    ],
)
def test_the_reasons_name_what_the_sources_say(config, words, reason):
    found = compare(setting_of(config(*words.split())))
    assert found.published is None
    assert reason in found.reason


def test_differences_from_the_nearest_of_several_protocols_are_listed(config):
    reason = compare(setting_of(config("model=preact_resnet_1001", "recipe=resnet"))).reason
    assert reason.startswith("164 epochs, the paper 200; batches of 128, the paper 64; fractions=")


def test_a_divided_rate_one_epoch_later_is_named(config):
    target = "recipe.schedule._target_=densenet_cli.training.schedules.divide_when_completed"
    reason = compare(setting_of(config(target))).reason
    assert reason == "schedule divide_when_completed, the paper divide_when_reached"


def test_nothing_unfinished_or_averaged_is_compared(config):
    record = fields(state="failed")
    assert compare(settings([Run(Path("run"), record)])[0]).reason == "no finished run"
    runs = [Run(Path("a"), fields(4.5)), Run(Path("b"), fields(4.5, model__depth=40))]
    assert compare(settings(runs, ["family"])[0]).reason == "averaged over model.depth"


def test_every_published_error_has_a_source_and_a_protocol():
    figures = published()
    assert len({(item.source, item.network, item.data, item.error) for item in figures}) == len(figures)
    for item in figures:
        assert 0 < item.error < 50
        assert item.protocol["recipe.optimizer._target_"] == "torch.optim.SGD"
        assert item.protocol["data.augment"] is item.data.endswith("+")
