"""Networks that read images of one channel: published sizes, and what they make of grey images."""

import pytest
import torch
from torch import nn

from densenet_cli.config.build import build_model
from densenet_cli.models.cost import count_parameters, multiply_adds
from densenet_cli.models.densenet import DenseNet
from densenet_cli.models.first_convolution import first_convolution, reading
from densenet_cli.models.history.bn_inception import BNInception
from densenet_cli.models.history.lenet import LeNet5
from densenet_cli.models.pretrained import load_pretrained
from densenet_cli.models.timm_models import timm_model
from densenet_cli.models.torchvision_models import torchvision_model
from densenet_cli.models.wide_resnet import WideResNet
from densenet_cli.options import OptionError, UserError


def test_lenet_5_has_the_60_000_parameters_of_its_paper():
    """LeCun et al. 1998, section II.B: C1 has 156, S2 12, C3 1,516, S4 32, C5 48,120, F6 10,164."""
    network = LeNet5(10, in_channels=1)
    names = ("c1", "s2", "c3", "s4", "c5", "f6")
    sizes = {name: count_parameters(network.get_submodule(name)) for name in names}
    assert sizes == {"c1": 156, "s2": 12, "c3": 1516, "s4": 32, "c5": 48120, "f6": 10164}
    assert sum(sizes.values()) == 60_000


@pytest.mark.parametrize(
    ("channels", "parameters", "macs"), [(1, 61_706, 416_520), (3, 62_006, 651_720)]
)
def test_lenet_5_as_it_is_often_built_has_its_size(channels, parameters, macs):
    """With max pooling and a full C3: counted by hand, as 5x5 convolutions with biases."""
    network = LeNet5(10, pooling="max", connections="all", in_channels=channels)
    widths = [(25 * channels + 1) * 6, (25 * 6 + 1) * 16, (400 + 1) * 120, 121 * 84, 85 * 10]
    assert count_parameters(network) == sum(widths) == parameters
    assert multiply_adds(network, 32, channels) == macs


def test_networks_of_the_fashion_mnist_benchmark_have_their_sizes():
    """zalandoresearch/fashion-mnist, README: DenseNet-BC of 768K, WRN 40-4 of 8.9M parameters."""
    assert count_parameters(DenseNet(10, 12, 100, in_channels=1)) // 1000 == 768
    with torch.device("meta"):
        network = WideResNet(10, 40, 4, in_channels=1)
    assert count_parameters(network) == pytest.approx(8.9e6, abs=0.05e6)


SMALL = [
    ("densenet_40 model.depth=10", 32),
    ("densenet_bc model.depth=10", 32),
    ("densenet_121 model.block_config=[1,1,1,1]", 64),
    ("resnet model.depth=8", 32),
    ("resnet_110_stochastic_depth model.depth=8", 32),
    ("plain model.depth=8", 32),
    ("preact_resnet_164 model.depth=11", 32),
    ("wide_resnet_16_4 model.depth=10", 32),
    *(("history/zfnet", 224), ("history/alexnet_2012", 224)),
    *(("history/googlenet_2014", 96), ("history/inception_resnet_v1", 96)),
    *(
        (f"history/{name}", 32)
        for name in (
            *("alexnet_cifar", "bn_inception_cifar", "highway_19", "lenet_5", "mobilenet_v2_cifar"),
            *("network_in_network", "resnext_29_cifar model.depth=11", "vgg_16_cifar"),
        )
    ),
]


@pytest.mark.parametrize(("words", "size"), SMALL)
def test_our_networks_read_one_channel_with_a_third_of_the_first_weights(words, size, config):
    model = config(*f"model={words}".split())["model"]
    with torch.device("meta"):
        grey, colour = (build_model(model, 10, channels) for channels in (1, 3))
    assert grey.eval()(torch.empty(2, 1, size, size, device="meta")).shape == (2, 10)
    _, conv = first_convolution(colour)
    assert count_parameters(colour) - count_parameters(grey) == conv.weight.numel() * 2 // 3
    saved = multiply_adds(colour, size) - multiply_adds(grey, size, 1)
    assert 0 < saved <= conv.weight.numel() * 2 // 3 * size**2


def test_bn_inception_has_8_first_maps_for_each_channel():
    with torch.device("meta"):
        grey = BNInception(10, in_channels=1)
    assert grey.stem[0].weight.shape == (8, 1, 7, 7)
    assert grey(torch.empty(2, 1, 64, 64, device="meta")).shape == (2, 10)


@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
def test_a_network_of_torchvision_makes_of_a_grey_image_what_it_makes_of_equal_colours(name):
    networks = []
    for channels in (1, 3):
        torch.manual_seed(0)
        networks.append(torchvision_model(name, 7, channels).eval())
    image = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        grey, colour = networks[0](image), networks[1](image.expand(-1, 3, -1, -1))
    torch.testing.assert_close(grey, colour, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["vgg11", "vit_b_32", "mobilenet_v3_small", "convnext_tiny"])
def test_networks_of_torchvision_read_one_channel(name):
    with torch.device("meta"):
        network = torchvision_model(name, 7, 1).eval()
    assert network(torch.empty(2, 1, 224, 224, device="meta")).shape == (2, 7)


def test_networks_of_timm_read_one_channel():
    pytest.importorskip("timm")
    with torch.device("meta"):
        network = timm_model("resnet18", 10, 1)
    assert network(torch.empty(2, 1, 64, 64, device="meta")).shape == (2, 10)


def test_pretrained_weights_of_colours_are_added(tmp_path):
    colour = DenseNet(5, 4, 10).eval()
    torch.save(colour.state_dict(), tmp_path / "colour.pt")
    grey = DenseNet(5, 4, 10, in_channels=1).eval()
    assert load_pretrained(grey, str(tmp_path / "colour.pt")) == []
    image = torch.randn(2, 1, 16, 16)
    torch.testing.assert_close(grey(image), colour(image.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match=r"features\.conv0\.weight is \(8, 3, 3, 3\) there and \(8, 2,"):
        load_pretrained(DenseNet(5, 4, 10, in_channels=2), str(tmp_path / "colour.pt"))


def test_weights_of_grey_levels_are_not_those_of_colours(tmp_path):
    torch.save(DenseNet(5, 4, 10, in_channels=1).state_dict(), tmp_path / "grey.pt")
    with pytest.raises(UserError, match=r"features\.conv0\.weight is \(8, 1, 3, 3\) there and \(8, 3,"):
        load_pretrained(DenseNet(5, 4, 10), str(tmp_path / "grey.pt"))


@pytest.mark.parametrize("network", [nn.Linear(3, 3), nn.Conv2d(4, 4, 1), nn.Conv2d(3, 3, 1, groups=3)])
def test_a_network_that_reads_no_colours_is_refused(network):
    assert reading(network, 3) is network
    with pytest.raises(OptionError, match="in_channels=1: this network does not begin with a conv"):
        reading(network, 1)


class TakesClasses(nn.Linear):
    def __init__(self, num_classes):
        super().__init__(192, num_classes)


class TakesChannels(nn.Linear):
    def __init__(self, num_classes, in_channels):
        super().__init__(64 * in_channels, num_classes)


class HasADefault(nn.Linear):
    def __init__(self, num_classes, in_channels=16):
        super().__init__(in_channels, num_classes)


@pytest.mark.parametrize(
    ("make", "options", "channels", "inputs"),
    [
        (TakesClasses, {}, 3, 192),
        (TakesChannels, {}, 3, 192),
        (TakesChannels, {}, 1, 64),
        (TakesChannels, {"in_channels": 1}, 1, 64),
        (HasADefault, {}, 3, 16),  # as before there was another number than three
        (HasADefault, {"in_channels": 8}, 3, 8),
        (HasADefault, {}, 1, 1),
    ],
)
def test_a_network_is_told_the_channels_if_it_asks_for_them(make, options, channels, inputs):
    options = {"_target_": f"{__name__}:{make.__name__}", **options}
    assert build_model(options, 5, channels).in_features == inputs


@pytest.mark.parametrize(
    ("make", "options", "fault"),
    [
        (TakesClasses, {}, "model._target_=.*: has no argument in_channels, .* 1 channel: give it one"),
        (HasADefault, {"in_channels": 8}, "model.in_channels=8: must be .* of the images, or left out"),
    ],
)
def test_a_network_that_cannot_be_told_is_refused_with_one_channel(make, options, fault):
    with pytest.raises(OptionError, match=fault):
        build_model({"_target_": f"{__name__}:{make.__name__}", **options}, 5, 1)
