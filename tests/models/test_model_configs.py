"""Every file of conf/model builds what its first line says, and yields to the command line."""

import inspect
import re
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import get_object, instantiate

from densenet_cli.inference.network_list import FIRST_LINE
from densenet_cli.models import cost

CONF = Path(__file__).parents[2] / "conf"
FOLDER = CONF / "model"
MODELS = sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.yaml"))
DENSENETS = [name for name in MODELS if name.startswith("densenet")]

NAMED = [
    "densenet_40",
    "densenet_100",
    "densenet_100_24",
    "densenet_bc_40",
    "densenet_bc_100",
    "densenet_bc_190",
    "densenet_bc_250",
    "densenet_bc_40_36",
    "densenet_bc_40_48",
    "densenet_bc_40_60",
    "densenet_121",
    "densenet_161",
    "densenet_169",
    "densenet_201",
    "densenet_264",
    "resnet_20",
    "resnet_32",
    "resnet_44",
    "resnet_56",
    "resnet_110",
    "resnet_1202",
    "resnet_110_stochastic_depth",
    "resnet_1202_stochastic_depth",
    "preact_resnet_110",
    "preact_resnet_164",
    "preact_resnet_1001",
    "wide_resnet_16_4",
    "wide_resnet_16_8",
    "wide_resnet_28_10",
    "resnet_18",
    "resnet_34",
    "resnet_50",
    "resnet_101",
    "resnet_152",
    "torchvision",
    "timm",
]
DEEPEST = re.compile(r"_(190|201|250|264|1001|1202)|/(inception_|nasnet_|densenet_|preact_resnet_)")


def composed(name, *overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose(overrides=[f"+model={name}", "+recipe.dropout=0", *overrides])
    return cfg.model


def built(name, *overrides, num_classes=10):
    with torch.device("meta"):
        return instantiate(composed(name, *overrides), num_classes=num_classes)


def first_line(name):
    return (CONF / "model" / f"{name}.yaml").read_text().splitlines()[0]


def test_no_network_of_the_papers_is_missing():
    assert set(NAMED) <= set(MODELS)


def stated(name):
    """Parameters, multiply-adds, classes, height and width in the first line of the file."""
    match = FIRST_LINE.fullmatch(first_line(name))
    assert match, f"{name}.yaml begins with no line like {FIRST_LINE.pattern}"
    keys = ("parameters", "multiply_adds", "classes", "height", "width")
    return tuple(int(match[key].replace(",", "")) for key in keys)


def assert_costs_what_is_stated(network, multiply_adds, classes, size):
    images = torch.empty(2, 3, *size, device="meta")
    assert network(images).shape == (2, classes)
    assert cost.multiply_adds(network, size) == multiply_adds


@pytest.mark.parametrize("name", MODELS)
def test_file_builds_the_network_that_its_first_line_counts(name):
    parameters, multiply_adds, classes, *size = stated(name)
    network = built(name, num_classes=classes)
    assert cost.count_parameters(network) == parameters
    if not DEEPEST.search(name):
        assert_costs_what_is_stated(network, multiply_adds, classes, tuple(size))


@pytest.mark.slow
@pytest.mark.parametrize("name", list(filter(DEEPEST.search, MODELS)))
def test_deepest_networks_cost_what_their_first_lines_count_too(name):
    _, multiply_adds, classes, *size = stated(name)
    network = built(name, num_classes=classes)
    assert_costs_what_is_stated(network, multiply_adds, classes, tuple(size))


@pytest.mark.parametrize("name", MODELS)
def test_every_argument_can_be_overridden_without_a_plus(name):
    cfg = composed(name)
    parameters = inspect.signature(get_object(cfg._target_)).parameters
    arguments = {key for key in parameters if key not in ("num_classes", "in_channels", "options")}
    further = set(cfg) - {"_target_"} - arguments
    assert arguments <= set(cfg)
    assert not further or "options" in parameters  # of torchvision's or timm's function


@pytest.mark.parametrize("name", DENSENETS)
def test_densenet_yields_to_growth_rate_compression_and_blocks(name):
    network = built(name, "model.growth_rate=24", "model.compression=0.8", "model.block_config=[8,8,8]")
    assert network.block_config == (8, 8, 8)
    conv = network.features.transition1.conv
    assert conv.out_channels == conv.in_channels * 8 // 10
    assert network.features.denseblock1.denselayer2.norm1.num_features == 24 + (
        network.features.conv0.out_channels
    )
    images = torch.empty(2, 3, 32, 32, device="meta")
    assert network(images).shape == (2, 10)


@pytest.mark.parametrize(("dropout", "overrides"), [(0.2, []), (0.3, ["model.dropout=0.3"])])
def test_recipe_gives_the_dropout_unless_the_model_is_told(dropout, overrides):
    network = built("densenet_bc_100", "recipe.dropout=0.2", *overrides)
    assert network.features.denseblock1.denselayer1.dropout.p == dropout


@pytest.mark.parametrize(
    ("depth", "overrides"),
    [(22, ["model.depth=22"]), (169, ["model.stem=imagenet", "model.depth=169"])],
)
def test_depth_and_stem_yield(depth, overrides):
    assert built("densenet_bc", *overrides).depth == depth


def test_rivals_yield():
    assert "shortcut.0" in " ".join(built("resnet_110", "model.shortcut=B").state_dict())
    stochastic = built("resnet_20", "model.survival_probability=0.8")
    assert stochastic.stages[2][2].survival == pytest.approx(0.8)
    assert built("resnet_110_stochastic_depth").stages[2][17].survival == 0.5
    assert composed("resnet_1202_stochastic_depth").survival_probability == 0.5
    assert built("wide_resnet_28_10", "model.dropout=0.3").stages[0][0].branch[3].p == 0.3
    assert len(built("preact_resnet_164", "model.block=basic").stages[0]) == 27
    narrow = built("densenet_bc_100", "model.bn_size=2").features.denseblock1.denselayer1
    assert narrow.conv1.out_channels == 2 * 12


def test_files_are_the_networks_of_their_authors():
    for name in ("resnet_110_stochastic_depth", "resnet_1202_stochastic_depth"):  # ResidualDrop.lua
        model = composed(name)
        assert (model.shortcut, model.bias, model.init) == ("pool", True, "fan_in")
    for name in ("preact_resnet_164", "preact_resnet_1001"):  # resnet-pre-act.lua
        assert (composed(name).stride, composed(name).init) == ("first", "fan_out")
    assert composed("preact_resnet_110").first_activation == "before_split"  # arXiv:1603.05027
    for name in ("wide_resnet_16_4", "wide_resnet_16_8", "wide_resnet_28_10"):  # models/utils.lua
        assert composed(name).init == "fan_in"
    for name in ("resnet_110", "densenet_bc_100"):  # fb.resnet.torch and liuzhuang13/DenseNet
        assert composed(name).init == "fan_out"


def test_torchvision_networks_yield():
    assert len(built("torchvision", "model.name=vgg11").features) == 21
    dropped = built("torchvision", "model.name=densenet121", "+model.drop_rate=0.1")
    assert dropped.features.denseblock1.denselayer1.drop_rate == 0.1


def test_densenet_files_differ_from_each_other():
    """No two files name one network, but for the two that others inherit."""
    configs = [str(composed(name)) for name in DENSENETS if name not in ("densenet", "densenet_bc")]
    assert len(set(configs)) == len(configs)
