"""Which published figure stands beside each job of the paper's sweeps, and what each figure needs.

Every job is composed as densenet-run does it, and gets a made record of a finished run. Then
`densenet-results table --paper` shows the figures.
"""

import csv
import functools
import io
import json
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml
from example_record import fields

from densenet_cli.config.compose import CONF, composing, resolved
from densenet_cli.config.variants import Variants
from densenet_cli.results.published import compare, published
from densenet_cli.results.records import Run
from densenet_cli.results.settings import settings
from densenet_cli.sweep import grid

UNSTATED = "Huang et al. 2017, who ran it, do not say by which recipe"
FIGURE_3 = {  # table 3 of arXiv:1608.06993, and fb.resnet.torch, pretrained/README.md
    "DenseNet-121": "25.02",
    "DenseNet-169": "23.80 (23.6)",
    "DenseNet-201": "22.58 (22.5)",
    "DenseNet-264": "22.15",
    "ResNet-34": "26.73",
    "ResNet-50": "24.01",
    "ResNet-101": "22.44",
    "ResNet-152": "22.16",
}
# The figure beside each job: that of the nearest source, and in brackets what the paper's table 2, or
# the authors' README, prints for the same run. Or why there is none.
JOBS = {
    "paper_table2_c10": [
        ("DenseNet (L=40, k=12)", "7.00"),
        ("DenseNet (L=100, k=12)", "5.77"),
        ("DenseNet (L=100, k=24)", "5.83"),
        ("DenseNet-BC (L=100, k=12)", "5.92"),
        ("DenseNet-BC (L=250, k=24)", "5.19"),
        ("ResNet-110", "13.63"),
        ("ResNet-110 with stochastic depth", "11.66"),
        ("Pre-activation ResNet-164", UNSTATED),
        ("Pre-activation ResNet-1001", UNSTATED),
    ],
    "paper_table2_c10plus": [
        ("DenseNet (L=40, k=12)", "5.24"),
        ("DenseNet (L=100, k=12)", "4.10"),
        ("DenseNet (L=100, k=24)", "3.74"),
        ("DenseNet-BC (L=100, k=12)", "4.51"),
        ("DenseNet-BC (L=250, k=24)", "3.62"),
        ("DenseNet-BC (L=190, k=40)", "3.46"),
        ("ResNet-110", "6.61 (6.43)"),
        ("ResNet-110", "6.41"),
        ("ResNet-110 with stochastic depth", "5.25 (5.23)"),
        ("ResNet-1202 with stochastic depth", "4.91"),
        ("Pre-activation ResNet-164", "5.46"),
        ("Pre-activation ResNet-1001", "4.62"),
        ("WRN-16-8", "4.81"),
        ("WRN-28-10", "4.17"),
    ],
    "paper_table2_c100": [
        ("DenseNet (L=40, k=12)", "27.55"),
        ("DenseNet (L=100, k=12)", "23.79"),
        ("DenseNet (L=100, k=24)", "23.42"),
        ("DenseNet-BC (L=100, k=12)", "24.15"),
        ("DenseNet-BC (L=250, k=24)", "19.64"),
        ("ResNet-110", "44.74"),
        ("ResNet-110 with stochastic depth", "37.80"),
        ("Pre-activation ResNet-164", UNSTATED),
        ("Pre-activation ResNet-1001", UNSTATED),
    ],
    "paper_table2_c100plus": [
        ("DenseNet (L=40, k=12)", "24.42"),
        ("DenseNet (L=100, k=12)", "20.20"),
        ("DenseNet (L=100, k=24)", "19.25"),
        ("DenseNet-BC (L=100, k=12)", "22.27"),
        ("DenseNet-BC (L=250, k=24)", "17.60"),
        ("DenseNet-BC (L=190, k=40)", "17.18"),
        ("ResNet-110", "27.76 (27.22)"),
        ("ResNet-110 with stochastic depth", "24.98 (24.58)"),
        ("Pre-activation ResNet-164", "24.33"),
        ("Pre-activation ResNet-1001", "22.71"),
        ("WRN-16-8", "22.07"),
        ("WRN-28-10", "20.50"),
    ],
    "paper_table2_svhn": [
        ("DenseNet (L=40, k=12)", "1.79"),
        ("DenseNet (L=100, k=12)", "1.67"),
        ("DenseNet (L=100, k=24)", "1.59"),
        ("DenseNet-BC (L=100, k=12)", "1.76"),
        ("DenseNet-BC (L=250, k=24)", "1.74"),
        ("ResNet-152", "1.80 (2.01)"),
        ("ResNet-152 with stochastic depth", "1.75"),
        ("WRN-16-4", "1.64"),
    ],
    "paper_table3": [
        (f"DenseNet-{depth}", FIGURE_3[f"DenseNet-{depth}"]) for depth in (121, 169, 201, 264)
    ],
    "paper_figure3": list(FIGURE_3.items()),
    "paper_figure4_right": [
        ("DenseNet-BC (L=100, k=12)", "4.51"),
        (
            "Pre-activation ResNet-1001",
            "300 epochs, the paper 200; fractions=[0.5,0.75], the paper [0.405,0.61]",
        ),
    ],
}
# The other figures: a command, and the figure that stands beside its run.
HE = "recipe=he_2015 data=cifar10 data.normalise=pixel_mean"
DEPTH = (
    "model=resnet_1202 model.shortcut=pool model.bias=true model.init=fan_in "
    "recipe=stochastic_depth_1202 data=cifar10 data.validation=5000 data.normalise=pixel_mean_std"
)
WIDE = "recipe=wide_resnet data.border=reflect data.drop_last=true"
ZCA = f"{WIDE} data.normalise=zca model.init=fan_out"
STREETS = "recipe=wide_resnet_svhn data=svhn data.validation=0 data.drop_last=true"
IMAGENET = "data=image_folder data.root=photos recipe=paper_imagenet data.antialias=false"
TEN = f"{IMAGENET} data.test_crops=10"
OTHERS = [
    *(
        (f"model=densenet_bc model.depth=40 model.growth_rate={k} data={data}", figure)
        for data, figures in (
            ("cifar10", {36: "4.58", 48: "3.99", 60: "4.01"}),
            ("cifar100", {36: "22.30", 48: "20.29", 60: "19.99"}),
        )
        for k, figure in figures.items()
    ),
    (f"model=resnet_20 {HE}", "8.75"),
    (f"model=resnet_32 {HE}", "7.51"),
    (f"model=resnet_44 {HE}", "7.17"),
    (f"model=resnet_56 {HE}", "6.97"),
    ("model=resnet_1202 recipe=he_2015_110 data=cifar10 data.normalise=pixel_mean", "7.93"),
    (DEPTH, "6.67"),
    ("model=preact_resnet_110 recipe=he_2016 data=cifar10 data.normalise=pixel_mean", "6.37"),
    ("model=preact_resnet_1001 recipe=he_2016 data=cifar10 data.normalise=pixel_mean", "4.92"),
    *(
        (f"model=wide_resnet {network} data={data} {protocol}", figure)
        for network, protocol, figures in (
            ("model.depth=40 model.widen_factor=4", WIDE, ("4.53", "21.18")),
            ("model.depth=16 model.widen_factor=8", WIDE, ("4.27", "20.43")),
            ("model.depth=28 model.widen_factor=10", WIDE, ("4.00", "19.25")),
            ("model.depth=28 model.widen_factor=10 model.dropout=0.3", WIDE, ("3.89", "18.85")),
            ("model.depth=16 model.widen_factor=4", WIDE, ("5.02", "24.03")),
            ("model.depth=16 model.widen_factor=4 model.dropout=0.3", WIDE, ("5.24", "23.91")),
            ("model.depth=40 model.widen_factor=1", ZCA, ("6.85", "30.89")),
            ("model.depth=40 model.widen_factor=2", ZCA, ("5.33", "26.04")),
            ("model.depth=40 model.widen_factor=4", ZCA, ("4.97", "22.89")),
        )
        for data, figure in zip(("cifar10", "cifar100"), figures, strict=True)
    ),
    (f"model=wide_resnet_16_4 model.init=fan_out {STREETS}", "1.85"),
    (f"model=wide_resnet_16_8 model.dropout=0.4 {STREETS}", "1.54"),
    (f"model=densenet_161 {IMAGENET}", "22.20"),
    (f"model=resnet_18 {IMAGENET}", "30.43"),
    (f"model=densenet_121 {TEN}", "23.61"),
    (f"model=densenet_169 {TEN}", "22.08"),
    (f"model=densenet_201 {TEN}", "21.46"),
    (f"model=densenet_264 {TEN}", "20.80"),
    (f"model=resnet_18 {TEN}", "28.22"),
    (f"model=resnet_34 {TEN}", "24.76"),
    (f"model=resnet_50 {TEN}", "22.24"),
    (f"model=resnet_101 {TEN}", "21.08"),
    (f"model=resnet_152 {TEN}", "20.69"),
]
IMAGES = {"Cifar10": 50_000, "Cifar100": 50_000, "Svhn": 604_388, "ImageFolder": 1_281_167}


def record(config):
    """The record of a run with this configuration that has finished, with made results."""
    made, kind = fields(5.0), config["data"]["_target_"].rpartition(".")[2]
    number = {"Cifar100": 100, "ImageFolder": 1000}.get(kind, 10)
    train = IMAGES[kind] - config["data"]["validation"]
    made["config"], made["results"]["reported"] = config, config["recipe"]["report"]
    made["data"] |= {
        "name": kind.lower(),
        "num_classes": number,
        "class_names": [str(label) for label in range(number)],
        "sizes": {"train": train, "validation": config["data"]["validation"], "test": 10_000},
    }
    return made


def write(folder, jobs):
    for number, config in enumerate(jobs):
        (folder / str(number)).mkdir(parents=True)
        (folder / str(number) / "run.json").write_text(json.dumps(record(config)))


@functools.cache
def jobs_of(name):
    lines = yaml.safe_load((CONF / "sweep" / f"{name}.yaml").read_text())["jobs"]
    typed = ["data.root=photos"] if "image_folder" in str(lines) else []
    with composing():
        variants = Variants()
        return [resolved(variants.compose(words)) for words in grid.expand(lines, typed, None)]


def comparisons(configs):
    runs = [Run(Path(str(number)), record(config)) for number, config in enumerate(configs)]
    return [compare(setting) for setting in settings(runs)]


def cell(row):
    """The cell "published %" of a row of the JSON, or the reason why it is empty."""
    if row["published_error_percent"] is None:
        return row["why_not_compared"]
    others = ", ".join(f"{one['error_percent']:g}" for one in row["published_elsewhere"])
    return f"{row['published_error_percent']:.2f}" + (f" ({others})" if others else "")


FAST = ("paper_table2_c10plus", "paper_table2_svhn")  # to compose the others takes a while
NAMES = [pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow]) for name in JOBS]


@pytest.mark.parametrize("name", NAMES)
def test_each_job_of_a_sweep_stands_beside_its_figure(name, tmp_path, results):
    write(tmp_path / "outputs" / name, jobs_of(name))
    rows = json.loads(results("table", f"outputs/{name}", "--paper", "--format", "json"))
    assert Counter((row["network"], cell(row)) for row in rows) == Counter(JOBS[name])


@pytest.mark.slow
def test_every_figure_whose_recipe_is_published_can_stand_beside_a_run():
    with composing():
        variants = Variants()
        others = [resolved(variants.compose(words.split())) for words, _ in OTHERS]
    found = comparisons(others)
    shown = [f"{one.published.error:.2f}" if one.published else one.reason for one in found]
    assert shown == [figure for _, figure in OTHERS]
    found += [one for name in JOBS for one in comparisons(jobs_of(name))]
    stated = [entry for entry in published() if not entry.unpublished]
    assert {one.published for one in found} - {None} == set(stated)
    assert [(one.network, one.data) for one in published() if one.unpublished] == [
        (f"Pre-activation ResNet-{depth}", data) for depth in (164, 1001) for data in ("C10", "C100")
    ]


def test_a_table_names_the_sources_and_what_is_not_as_published(tmp_path, results):
    write(tmp_path / "outputs", jobs_of("paper_table2_c10plus")[6:9])
    words = ["table", "outputs", "--paper", "--format"]
    text = results(*words, "markdown")
    assert re.findall(r"^\| (ResNet.*?) \| C10\+ .*\| 1 \| (.*?) \|", text, re.MULTILINE) == [
        ("ResNet-110, as Huang et al. 2016", "6.41"),
        ("ResNet-110, as He et al. 2015", "6.61 (6.43)"),
        ("ResNet-110 with stochastic depth, as Huang et al. 2016", "5.25 (5.23)"),
    ]
    table_1, table_6 = "arXiv:1603.09382, table 1", "arXiv:1512.03385, table 6, mean of 5 runs"
    assert f"published: Huang et al. 2016, {table_1}; He et al. 2015, {table_6}." in text
    other = "ResNet-110, as He et al. 2015, C10+: 6.43 (the best of those 5 runs)."
    assert f"In brackets, of the same published runs: {other}" in text
    norm = "each batch norm's statistics are over 128 images, the paper's over 64"
    assert f"Not as published: {norm} (ResNet-110, as He et al. 2015)." in text
    assert "6.61 (6.43) & $-$1.61" in results(*words, "latex")
    _, row, _ = csv.DictReader(io.StringIO(results(*words, "csv")))
    assert (row["network"], row["published_error_percent"]) == ("ResNet-110", "6.61")
    assert row["published_elsewhere"] == "6.43 the best of those 5 runs"
    assert row["not_as_published"] == norm


def test_stochastic_depth_on_svhn_was_chosen_among_more_evaluations(tmp_path, results):
    """Than those after each epoch: main.lua evaluates after every 200 steps."""
    config = jobs_of("paper_table2_svhn")[5]
    write(tmp_path / "outputs", [config])
    assert "1.80" in results("table", "outputs", "--paper", "--format", "markdown")
    trainer = {name: value for name, value in config["trainer"].items() if "val" not in name}
    write(tmp_path / "others", [config | {"trainer": trainer}])
    text = results("table", "others", "--paper", "--format", "markdown")
    assert "val_check_interval=null, the paper 200" in text.replace("\\", "")
