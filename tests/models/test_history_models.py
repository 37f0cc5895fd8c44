"""The networks of conf/model/history: sizes and shapes of the papers, and one step of training each."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn
from torch.nn import functional as F

import densenet_cli.results
from densenet_cli.config.build import build
from densenet_cli.config.compose import CONF
from densenet_cli.models.cost import count_parameters, multiply_adds
from densenet_cli.models.history import cifar_sized
from densenet_cli.models.history.alexnet import AlexNet
from densenet_cli.models.history.bn_inception import BNInception, SmallInception
from densenet_cli.models.history.googlenet import GoogLeNet
from densenet_cli.models.history.highway import HighwayLayer, HighwayNetwork
from densenet_cli.models.history.inception_resnet import InceptionResNetV1
from densenet_cli.models.history.lenet import LeNet5, squashed
from densenet_cli.models.history.network_in_network import NetworkInNetwork
from densenet_cli.models.history.zfnet import ZFNet
from densenet_cli.options import OptionError
from densenet_cli.record.network_names import family

FOLDER = CONF / "model" / "history"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
TABLE = Path(densenet_cli.results.__file__).with_name("systems.yaml")
SYSTEMS = yaml.safe_load(TABLE.read_text(encoding="utf-8"))

LARGE = {"wide_resnet_28_10", "resnext_29_cifar", "preact_resnet_164", "densenet_bc_100"}
IMAGE_SIZES = {
    "alexnet_2012": 224,
    "zfnet": 224,
    "bn_inception": 32,
}  # the smallest that works, in training by two images
OWN = [
    *(LeNet5, AlexNet, ZFNet, NetworkInNetwork, GoogLeNet, HighwayNetwork),
    *(BNInception, SmallInception, InceptionResNetV1),
]


# Ours as a share of the number that is printed, where both differ by more than rounding.
OTHERWISE = {
    ("parameters", "bn_inception"): 0.823,  # the paper's figure 5 has no more layers than ours
    ("parameters", "inception_v3"): 0.953,  # "less than"
    ("multiply_adds", "inception_v3"): 1.143,  # 5.7 billion in pytorchcv, too
}


def on_meta(make, num_classes=10, **options):
    with torch.device("meta"):
        return make(num_classes, **options)


def first_line(name):
    return (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]


def stated(name):
    """Year, side of the images, parameters and classes in the first line of a file."""
    size = r": ([\d,]+) parameters, [\d,]+ multiply-adds \(([\d,]+) classes, \2x\2\)$"
    pattern = r"\((\d{4})\).* for (\d+)x\2.*" + size
    return [int(text.replace(",", "")) for text in re.search(pattern, first_line(name)).groups()]


def stated_costs(name):
    """Parameters and multiply-adds in the first line of a file."""
    numbers = re.search(r": ([\d,]+) parameters, ([\d,]+) multiply-adds", first_line(name)).groups()
    return dict(
        zip(("parameters", "multiply_adds"), (int(n.replace(",", "")) for n in numbers), strict=True)
    )


def shapes(network, size):
    """The shape of what each module gives for one image: channels, height, width."""
    found = {}
    for name, module in network.named_modules():
        module.register_forward_hook(
            lambda _, __, output, name=name: found.update({name: tuple(output.shape[1:])})
        )
    network.eval()(torch.empty(1, 3, size, size, device="meta"))
    return found


def size(*modules):
    return sum(count_parameters(module) for module in modules)


def printed(millions):
    return pytest.approx(millions * 1e6, abs=5_000)


def scales(network):
    return sum(m.num_features for m in network.modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.parametrize("name", NAMES)
def test_a_file_tells_the_year_of_its_system_and_the_image_size(name, config):
    called = family(config(f"model=history/{name}")["model"])
    (system,) = [system for system in SYSTEMS.values() if called in system["networks"]]
    year, side, _, num_classes = stated(name)
    assert year == system["year"]
    assert (side == 32) == (num_classes == 10)


def test_the_table_of_systems_is_in_order_and_its_numbers_are_ours():
    years = [system["year"] for system in SYSTEMS.values()]
    assert years == sorted(years)
    for key, at_least in (("parameters", 18), ("multiply_adds", 9)):
        found = {name: n for one in SYSTEMS.values() for name, n in one.get(key, {}).items()}
        assert len(found) >= at_least
        for name, number in found.items():  # rounded, or without what the file's docstring names
            ours, tolerance = stated_costs(name)[key], {"parameters": 0.04, "multiply_adds": 0.08}[key]
            if (key, name) in OTHERWISE:
                assert ours / number == pytest.approx(OTHERWISE[key, name], abs=0.005), name
            else:
                assert ours == pytest.approx(number, rel=tolerance), name


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if large else [])
        for name in NAMES
        if name != "resnext_101_32x48d"  # torchvision's, and too large to be trained in a test
        for large in [name in LARGE or ("for 32x32" not in first_line(name) and name != "bn_inception")]
    ],
)
def test_one_step_of_training_changes_the_weights(name, config):
    torch.manual_seed(0)
    network = build("model", config(f"model=history/{name}")["model"], num_classes=5).train()
    side = IMAGE_SIZES.get(name, 32 if "for 32x32" in first_line(name) else 96)
    before = {key: weight.detach().clone() for key, weight in network.named_parameters()}
    loss = F.cross_entropy(network(torch.randn(2, 3, side, side)), torch.tensor([0, 3]))
    loss.backward()
    torch.optim.SGD(network.parameters(), lr=0.1).step()
    for key, weight in network.named_parameters():
        assert weight.isfinite().all(), key
        assert weight.ndim == 1 or not torch.equal(weight, before[key]), key


@pytest.mark.parametrize(
    ("make", "options"),
    [
        *((make, {"num_classes": 0}) for make in OWN),
        *(
            (getattr(cifar_sized, name), {"num_classes": 0})
            for name in dir(cifar_sized)
            if "_cifar" in name
        ),
        *((make, {"dropout": 1}) for make in (AlexNet, ZFNet, NetworkInNetwork, GoogLeNet)),
        *((make, {"dropout": 1}) for make in (HighwayNetwork, InceptionResNetV1)),
        (GoogLeNet, {"auxiliary": "both"}),
        (HighwayNetwork, {"transform_bias": "low"}),
        (cifar_sized.vgg_cifar, {"depth": 12}),
        (cifar_sized.resnext_cifar, {"depth": 30}),
        (cifar_sized.resnext_cifar, {"cardinality": 0}),
        (cifar_sized.resnext_cifar, {"base_width": 0.5}),
    ],
)
def test_a_wrong_option_is_refused_by_its_name(make, options):
    (name,) = options
    with pytest.raises(OptionError, match=f"^{name}="):
        make(**{"num_classes": 10, **options})


def test_lenet_has_the_papers_layers_and_60_000_parameters():
    network = on_meta(LeNet5)
    found = shapes(network, 32)
    assert [found[name] for name in ("c1", "s2", "c3", "s4", "c5", "f6")] == [
        *((6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5)),  # figure 2
        *((120, 1, 1), (84,)),
    ]
    layers = [network.c1, network.s2, network.c3, network.s4, network.c5, network.f6]
    sizes = [size(layer) for layer in layers]
    sizes[0] -= 6 * 2 * 25  # two of the three colours
    assert sizes == [156, 12, 1_516, 32, 48_120, 10_164]  # section II.B
    assert sum(sizes) == 60_000
    # connections of the paper less those of biases and subsampling, and with three colours
    assert multiply_adds(network, 32) == 3 * 117_600 + 150_000 + 48_000 + 10_080 + 840


def test_maps_of_c3_read_those_of_table_1():
    table = {  # a row for each map of S2
        0: (0, 4, 5, 6, 9, 10, 11, 12, 14, 15),
        1: (0, 1, 5, 6, 7, 10, 11, 12, 13, 15),
        2: (0, 1, 2, 6, 7, 8, 11, 13, 14, 15),
        3: (1, 2, 3, 6, 7, 8, 9, 12, 14, 15),
        4: (2, 3, 4, 7, 8, 9, 10, 12, 13, 15),
        5: (3, 4, 5, 8, 9, 10, 11, 13, 14, 15),
    }
    layer = LeNet5(10).c3
    maps = torch.zeros(1, 6, 14, 14)
    nothing = layer(maps)
    for row, read_by in table.items():
        maps.zero_()[:, row] = 1
        changed = (layer(maps) != nothing).any(dim=(2, 3))[0]
        assert tuple(changed.nonzero().flatten().tolist()) == read_by


def test_lenet_squashes_and_subsamples_as_in_the_paper():
    assert squashed(torch.tensor([-1.0, 1.0])).tolist() == pytest.approx([-1, 1], abs=1e-4)
    layer = LeNet5(10).s2
    maps = torch.randn(2, 6, 28, 28)
    summed = maps[..., ::2, ::2] + maps[..., 1::2, ::2] + maps[..., ::2, 1::2] + maps[..., 1::2, 1::2]
    expected = 1.7159 * torch.tanh((layer.coefficient * summed + layer.bias) * 2 / 3)
    torch.testing.assert_close(layer(maps), expected)
    network = LeNet5(10)
    assert 0.3 < network.s4.coefficient.abs().max() <= 0.6  # 2.4 / 4 inputs
    assert 0.9 * 2.4 / 400 < network.c5.weight.max() <= 2.4 / 400


def test_zfnet_has_the_papers_maps():
    found = shapes(on_meta(ZFNet, 1000), 224)
    features = [found[f"features.{index}"] for index in (0, 2, 4, 6, 8, 10, 12, 14)]
    assert features == [  # figure 3
        *((96, 110, 110), (96, 55, 55), (256, 26, 26), (256, 13, 13)),
        *((384, 13, 13), (384, 13, 13), (256, 13, 13), (256, 6, 6)),
    ]
    assert (found["classifier.0"], found["classifier.3"]) == ((4096,), (4096,))
    assert count_parameters(on_meta(ZFNet, 1000)) == 62_357_608


def test_network_in_network_has_the_layers_of_the_authors_code():
    network = on_meta(NetworkInNetwork)
    found = shapes(network, 32)
    assert [found[f"features.{index}"] for index in (0, 1, 3, 4, 6)] == [
        *((96, 32, 32), (96, 16, 16), (192, 16, 16), (192, 8, 8), (10, 8, 8)),
    ]
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert [conv.out_channels for conv in convolutions] == [192, 160, 96, *[192] * 5, 10]
    assert [conv.kernel_size[0] for conv in convolutions] == [5, 1, 1, 5, 1, 1, 3, 1, 1]
    assert NetworkInNetwork(10).features[0][0].weight.std().item() == pytest.approx(0.05, rel=0.05)


def test_highway_layers_carry_and_transform():
    torch.manual_seed(0)
    layer = HighwayLayer(4, transform_bias=-2.0).double()
    x = torch.randn(2, 4, 5, 5, dtype=torch.double)
    gate = layer.gate(x).sigmoid()
    torch.testing.assert_close(layer(x), layer.transform(x).relu() * gate + x * (1 - gate))
    assert (layer.gate.bias == -2).all()
    assert (layer.transform.bias == 0).all()
    nn.init.constant_(layer.gate.bias, -1000.0)
    assert torch.equal(layer(x), x)


def test_the_highway_network_is_that_of_the_authors_code():
    network = on_meta(HighwayNetwork)
    found = shapes(network, 32)
    assert [found[f"stages.{index}"] for index in (2, 6, 10, 15, 19, 24, 26)] == [
        *(
            (32, 32, 32),
            (32, 32, 32),
            (80, 16, 16),
            (80, 16, 16),
            (128, 8, 8),
            (128, 8, 8),
            (100, 8, 8),
        ),
    ]
    layers = sum(isinstance(m, (nn.Conv2d, nn.Linear)) for m in network.modules())
    gates = sum(isinstance(m, HighwayLayer) for m in network.modules())
    assert (layers - gates, gates) == (19, 14)
    assert f"{count_parameters(network) / 1e6:.1f}" == "2.3"  # arXiv:1505.00387, table 1


def test_bn_inception_has_the_papers_modules():
    network = on_meta(BNInception, 1000)
    found = shapes(network, 224)
    assert found["stem.2"] == (64, 56, 56)
    assert found["stem"] == (192, 28, 28)
    sizes = [*[(256, 28), (320, 28)], *[(576, 14)] * 5, *[(1024, 7)] * 3]  # figure 5
    expected = [(channels, side, side) for channels, side in sizes]
    assert [found[f"inception.{index}"] for index in range(10)] == expected
    # Its authors count 10,173,112 in slim's inception_v2_test.py: no classifier and no scales, but
    # running means and variances, and a bias instead of the first layer's batch norm (3 x 64).
    weights = size(network.stem, network.inception) - 2 * scales(network)
    assert weights + 3 * scales(network) - 2 * 64 == 10_173_112


def test_the_small_inception_has_its_papers_size_and_maps():
    network = on_meta(SmallInception)
    assert count_parameters(network) - scales(network) == 1_649_402  # table 1: without scales
    found = shapes(network, 28)
    channels = [64, 80, 160, 160, 160, 160, 144, 240, 336, 336]
    sides = [28, 28, *[14] * 5, *[7] * 3]
    assert [found[f"inception.{index}"] for index in range(10)] == [
        (width, side, side) for width, side in zip(channels, sides, strict=True)
    ]


@pytest.mark.parametrize(
    ("make", "parameters", "last_maps"),
    [  # two as bearpaw/pytorch-classification prints them; the others are the library's less classes
        (cifar_sized.alexnet_cifar, printed(2.47), ("features", (256, 1, 1))),
        (cifar_sized.vgg_cifar, 138_365_992 - 123_642_856 + 5_130, ("features", (512, 1, 1))),
        (cifar_sized.resnext_cifar, printed(34.43), ("layer3", (1024, 8, 8))),
        (cifar_sized.mobilenet_v1_cifar, 4_231_976 - 990 * 1_025, ("blocks", (1024, 2, 2))),
        (cifar_sized.mobilenet_v2_cifar, 3_504_872 - 990 * 1_281, ("features", (1280, 4, 4))),
    ],
)
def test_cifar_sized_networks_keep_their_sizes_and_shrink_less(make, parameters, last_maps):
    network = on_meta(make)
    assert count_parameters(network) == parameters
    module, shape = last_maps
    assert shapes(network, 32)[module] == shape


def test_options_of_cifar_sized_networks_reach_them():
    wide = on_meta(cifar_sized.resnext_cifar, cardinality=16)
    assert count_parameters(wide) == printed(68.16)  # by bearpaw, too
    assert wide.layer1[0].conv2.groups == 16
    assert on_meta(cifar_sized.resnext_cifar, base_width=8).layer1[0].conv2.out_channels == 64
    assert len(on_meta(cifar_sized.resnext_cifar, depth=20).layer2) == 2
    vgg = on_meta(cifar_sized.vgg_cifar, depth=19)
    assert sum(isinstance(module, nn.Conv2d) for module in vgg.modules()) == 16
    assert count_parameters(vgg) == printed(20.04)
