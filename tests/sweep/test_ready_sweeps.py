"""Every file of conf/sweep: its jobs are the rows of the paper's tables, with sizes and recipes."""

import functools
import itertools
import json
import re
from collections import Counter

import pytest
import torch
import yaml

from densenet_cli.config.build import build, build_later
from densenet_cli.config.compose import CONF, compose, composing, resolved
from densenet_cli.config.variants import Variants
from densenet_cli.models.cost import count_parameters, multiply_adds
from densenet_cli.record.identity import identity
from densenet_cli.run.option_checks import check
from densenet_cli.sweep import grid
from densenet_cli.sweep.decide.comparisons import comparisons
from densenet_cli.sweep.jobs import compose_sweep

# 42 networks take a while to make; the others have the networks of paper_table2_c10plus
LARGE = ["growth_compression", "paper_table2_c10", "paper_table2_c100", "paper_table2_c100plus"]
FILES = [
    pytest.param(path, id=path.stem, marks=[pytest.mark.slow] if path.stem in LARGE else [])
    for path in sorted((CONF / "sweep").glob("*.yaml"))
]
CLASSES = {"Cifar100": 100, "ImageFolder": 1000}  # ImageNet's; all others have 10

# arXiv:1608.06993, table 2, column "params", in millions for 10 classes. For two nets 10.2 is printed:
# ResNet-1202 has 19.4 (He et al. 2015, table 6), and pre-activation 1001 has 10.2 only without batch
# norm and biases.
MILLIONS = {
    "densenet_40": "1.0",
    "densenet_100": "7.0",
    "densenet_100_24": "27.2",
    "densenet_bc_100": "0.8",
    "densenet_bc_250": "15.3",
    "densenet_bc_190": "25.6",
    "resnet_110": "1.7",
    "resnet_110_stochastic_depth": "1.7",
    "resnet_1202_stochastic_depth": "19.5",  # 19.4 without the biases of the authors' convolutions
    "preact_resnet_164": "1.7",
    "preact_resnet_1001": "10.3",
    "wide_resnet_16_8": "11.0",
    "wide_resnet_28_10": "36.5",
    "wide_resnet_16_4": "2.7",
    "resnet_152": "2.4",  # the network that Huang et al. had for SVHN, where the table says 110
    "resnet_152_stochastic_depth": "2.4",
}
DENSENETS = list(MILLIONS)[:6]
RIVALS = ["resnet_110", "resnet_110_stochastic_depth", "preact_resnet_164", "preact_resnet_1001"]
WIDE = ["wide_resnet_16_8", "wide_resnet_28_10"]
COLUMNS = {  # the rows that have a figure; "resnet_110" twice: He et al., and as run by Huang et al.
    "c10": [*DENSENETS[:5], *RIVALS],
    "c10plus": [*DENSENETS, *RIVALS, *WIDE, "resnet_110", "resnet_1202_stochastic_depth"],
    "c100": [*DENSENETS[:5], *RIVALS],
    "c100plus": [*DENSENETS, *RIVALS, *WIDE],
    "svhn": [*DENSENETS[:5], "resnet_152", "resnet_152_stochastic_depth", "wide_resnet_16_4"],
}
IMAGENET = {  # torchvision's num_params; DenseNet-264 as counted from table 1 of the paper
    "densenet_121": 7_978_856,
    "densenet_169": 14_149_480,
    "densenet_201": 20_013_928,
    "densenet_264": 33_337_704,
    "resnet_34": 21_797_672,
    "resnet_50": 25_557_032,
    "resnet_101": 44_549_160,
    "resnet_152": 60_192_808,
}


def content(name):
    whole = yaml.safe_load((CONF / "sweep" / f"{name}.yaml").read_text())
    return whole.get("sweep", whole)  # whole: without "@package _global_"


def words_of(name, *typed):
    with composing():
        return grid.expand(content(name)["jobs"], list(typed), None)


@functools.cache  # composing takes a while, and no test changes what it is given
def jobs_of(name, *typed):
    """The jobs of a file: the overrides and the configuration of each."""
    jobs = words_of(name, *typed)
    with composing():
        return [(words, resolved(compose(words))) for words in jobs]


def choice(words, group="model"):
    return next(word.partition("=")[2] for word in words if word.startswith(f"{group}="))


def row(words):
    """The row of the paper's table 2 that a job is."""
    if choice(words) != "resnet":
        return choice(words)
    has_stochastic_depth = "model.survival_probability=0.5" in words
    return f"resnet_{choice(words, 'model.depth')}" + "_stochastic_depth" * has_stochastic_depth


def parameters(config, num_classes):
    return built_size(json.dumps(config["model"]), num_classes)


@functools.cache
def built_size(model, num_classes):
    with torch.device("meta"):
        return count_parameters(build("model", json.loads(model), num_classes=num_classes))


def of_model(jobs, model):
    (config,) = [config for words, config in jobs if row(words) == model]
    return config


def rates(config):
    """The learning rate of each epoch."""
    recipe = config["recipe"]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=recipe["optimizer"]["lr"])
    schedule = build_later("recipe.schedule", recipe["schedule"])(optimizer, epochs=config["epochs"])
    found = []
    for _ in range(config["epochs"]):
        found.append(round(optimizer.param_groups[0]["lr"], 7))
        optimizer.step()
        schedule.step()
    return found


def drops(config):
    """The epochs, numbered from 1, that are the first at a lower rate, and those rates."""
    found = rates(config)
    return {
        number: rate
        for number, (before, rate) in enumerate(itertools.pairwise(found), start=2)
        if rate < before
    }


@pytest.mark.parametrize("path", FILES)
def test_every_line_makes_jobs_that_differ(path):
    written = content(path.stem)
    assert written.keys() - {"baseline"} == {"name", "jobs"}
    assert written["name"] == path.stem
    jobs = jobs_of(path.stem, *(["data.root=photos"] if "image_folder" in path.read_text() else []))
    for _, config in jobs:
        check(config)
        assert parameters(config, CLASSES.get(config["data"]["_target_"].rpartition(".")[2], 10)) > 0
    assert len({identity(config) for _, config in jobs}) == len(jobs)
    for stated in re.findall(r"(\d+) runs", path.read_text()):
        assert int(stated) == len(jobs)


def test_the_decided_studies_compare_at_equal_parameters_and_at_equal_cost():
    resnet, densenet = (config for _, config in jobs_of("study_decided"))
    sizes = [parameters(config, 10) for config in (resnet, densenet)]
    assert sizes == [172_506, 176_122]
    assert resnet["epochs"] == densenet["epochs"] == 10
    with torch.device("meta"):
        network = build("model", resnet["model"], num_classes=10)
    at_cost = [config for _, config in jobs_of("study_decided_equal_cost")]
    assert [config["model"] for config in at_cost] == [resnet["model"], densenet["model"]]
    for config in at_cost:
        assert config["budget"] == 3 * multiply_adds(network, (32, 32)) * 50_000 * 10
    with composing():
        sweep = compose_sweep(["sweep=study_decided", "sweep.most_seeds=3"])
        assert comparisons(sweep).design.baseline == "model=resnet,depth=14"
    assert len(sweep.jobs) == 6


@pytest.mark.parametrize("path", FILES)
def test_jobs_composed_together_equal_those_composed_alone(path):
    jobs = jobs_of(path.stem, *(["data.root=photos"] if "image_folder" in path.read_text() else []))
    with composing():
        variants = Variants()
        for words, config in jobs:
            assert resolved(variants.compose(words)) == config, words


@pytest.mark.parametrize("column", COLUMNS)
def test_a_column_of_table_2_has_the_papers_rows_and_sizes(column):
    jobs = jobs_of(f"paper_table2_{column}")
    assert Counter(row(words) for words, _ in jobs) == Counter(COLUMNS[column])
    for words, config in jobs:
        assert f"{parameters(config, 10) / 1e6:.1f}" == MILLIONS[row(words)], row(words)
        data = {"svhn": "svhn", "c10": "cifar10", "c100": "cifar100"}[column.removesuffix("plus")]
        assert choice(words, "data") == data
        assert config["data"]["augment"] is column.endswith("plus")


@pytest.mark.parametrize(
    ("column", "epochs", "dropout", "report"),
    [
        ("c10", 300, 0.2, "last"),
        ("c10plus", 300, 0.0, "last"),
        ("c100", 300, 0.2, "last"),
        ("c100plus", 300, 0.0, "last"),
        ("svhn", 40, 0.2, "best"),
    ],
)
def test_densenets_are_trained_as_in_section_4_2(column, epochs, dropout, report):
    for words, config in jobs_of(f"paper_table2_{column}"):
        if not choice(words).startswith("densenet"):
            continue
        assert config["epochs"] == epochs
        assert config["model"]["dropout"] == dropout
        assert config["data"]["batch_size"] == 64
        assert config["recipe"]["report"] == report
        assert drops(config) == {epochs // 2: 0.01, epochs * 3 // 4: 0.001}


def test_rivals_are_trained_by_their_own_recipes():
    jobs = jobs_of("paper_table2_c100plus")
    for model in ("resnet_110", "resnet_110_stochastic_depth"):  # arXiv:1603.09382, section 4
        config = of_model(jobs, model)
        assert (config["epochs"], config["data"]["batch_size"]) == (500, 128)
        assert (config["data"]["validation"], config["recipe"]["report"]) == (5000, "best")
        assert drops(config) == {250: 0.01, 375: 0.001}
    for model in ("preact_resnet_164", "preact_resnet_1001"):  # arXiv:1603.05027, appendix
        config = of_model(jobs, model)
        assert (config["recipe"]["steps"], config["data"]["batch_size"]) == (64_000, 128)
        assert config["recipe"]["warm_up"] == {"rate": 0.01, "steps": 400}
        assert config["data"]["normalise"] == "pixel_mean"
    for model in WIDE:  # arXiv:1605.07146, section 3; the authors' log: 0.02 from epoch 60
        config = of_model(jobs, model)
        assert (config["epochs"], config["data"]["batch_size"]) == (200, 128)
        assert config["recipe"]["optimizer"]["weight_decay"] == 5e-4
        assert drops(config) == {60: 0.02, 120: 0.004, 160: 0.0008}
        assert config["data"]["normalise"] == "zca"


def test_rivals_on_cifar10():
    jobs = jobs_of("paper_table2_c10plus")
    config = of_model(jobs, "preact_resnet_1001")  # README of KaimingHe/resnet-1k-layers
    assert (config["epochs"], config["data"]["batch_size"]) == (200, 64)
    assert drops(config) == {81: 0.01, 122: 0.001}  # fb.resnet.torch, train.lua
    config = of_model(jobs, "resnet_1202_stochastic_depth")
    assert (config["epochs"], config["model"]["survival_probability"]) == (300, 0.5)
    assert config["recipe"]["warm_up"] == {"rate": 0.01, "epochs": 10}
    assert drops(config) == {150: 0.01, 225: 0.001}


def test_rivals_on_svhn():
    jobs = jobs_of("paper_table2_svhn")
    config = of_model(jobs, "resnet_152_stochastic_depth")  # arXiv:1603.09382: 50 epochs, 30 and 35
    assert config["epochs"] == 50
    assert drops(config) == {30: 0.01, 35: 0.001}
    assert (config["data"]["normalise"], config["data"]["validation"]) == ("pixel_mean_std", 6000)
    assert config["data"]["hold_out"] == "per_class"
    config = of_model(jobs, "wide_resnet_16_4")  # scripts/train_svhn.sh of the authors
    assert (config["epochs"], config["model"]["dropout"]) == (160, 0.4)
    assert rates(config)[0] == 0.01
    assert drops(config) == {80: 0.001, 120: 0.0001}
    assert (config["data"]["normalise"], config["data"]["validation"]) == ("scale", 0)


@pytest.mark.parametrize(("file", "count"), [("paper_table3", 4), ("paper_figure3", 8)])
def test_imagenet_networks_have_the_published_sizes(file, count):
    jobs = jobs_of(file, "data.root=photos")
    assert [choice(words) for words, _ in jobs] == list(IMAGENET)[:count]
    for words, config in jobs:
        assert parameters(config, 1000) == IMAGENET[choice(words)]
        assert (config["epochs"], config["data"]["batch_size"]) == (90, 256)
        assert drops(config) == {31: 0.01, 61: 0.001}
        assert config["data"]["root"] == "photos"


def test_figure_4_compares_the_four_variants_at_equal_growth():
    jobs = jobs_of("paper_figure4_left")
    variants = {(config["model"]["bottleneck"], config["model"]["compression"]) for _, config in jobs}
    assert variants == {(False, 1.0), (True, 1.0), (False, 0.5), (True, 0.5)}
    assert {config["model"]["growth_rate"] for _, config in jobs} == {12}
    sizes = [parameters(config, 10) for _, config in jobs]
    assert (min(sizes), max(sizes)) == (44_410, 1_019_722)


@pytest.mark.parametrize(
    ("growth_rate", "compression", "size"),
    [  # counted apart from this code, with the floor of the product in double precision
        (12, 0.25, 611_928),
        (12, 0.5, 769_162),
        (24, 0.6, 3_308_447),
        (40, 1.0, 13_110_010),
    ],
)
def test_the_grid_of_growth_and_compression_has_the_counted_sizes(growth_rate, compression, size):
    cell = f"model.growth_rate={growth_rate}", f"model.compression={compression}"
    assert set(cell) <= set(itertools.chain(*words_of("growth_compression")))
    ((_, config),) = jobs_of("growth_compression", *cell)
    assert parameters(config, 10) == size


def test_the_small_figure_4_has_small_networks():
    jobs = jobs_of("small_figure4")
    assert all(parameters(config, 10) < 300_000 for _, config in jobs)
    assert {config["epochs"] for _, config in jobs} == {5}


def test_a_typed_word_replaces_that_of_every_line():
    jobs = jobs_of("paper_table3", "epochs=2", "data.root=photos")
    assert {config["epochs"] for _, config in jobs} == {2}
    assert len(jobs) == 4
