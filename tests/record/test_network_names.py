"""Networks have the names that the papers use."""

from __future__ import annotations

import pytest

from densenet_cli.record.differences import acting_options, differing_among_peers, phrase
from densenet_cli.record.identity import setting
from densenet_cli.record.network_names import family, network_name

NAMES = {  # choice of model -> family and name in arXiv:1608.06993, 1512.03385, 1603.09382, 1605.07146
    "densenet_40": ("DenseNet", "DenseNet (L=40, k=12)"),
    "densenet_bc_100": ("DenseNet-BC", "DenseNet-BC (L=100, k=12)"),
    "densenet_bc_190": ("DenseNet-BC", "DenseNet-BC (L=190, k=40)"),
    "densenet_bc_100 model.compression=1.0": ("DenseNet-B", "DenseNet-B (L=100, k=12)"),
    "densenet_100 model.compression=0.5": ("DenseNet-C", "DenseNet-C (L=100, k=12)"),
    "densenet_bc model.block_config=[8,8,8]": ("DenseNet-BC", "DenseNet-BC (8-8-8, k=12)"),
    "densenet_121": ("DenseNet-BC", "DenseNet-121"),
    "densenet_161": ("DenseNet-BC", "DenseNet-161"),
    "densenet_121 model.growth_rate=24": ("DenseNet-BC", "DenseNet-BC (L=121, k=24)"),
    "resnet_110": ("ResNet", "ResNet-110"),
    "resnet_1202_stochastic_depth": (
        "ResNet with stochastic depth",
        "ResNet-1202 with stochastic depth",
    ),
    "plain": ("Plain network", "Plain-20"),
    "preact_resnet_164": ("Pre-activation ResNet", "Pre-activation ResNet-164"),
    "wide_resnet_28_10": ("Wide ResNet", "WRN-28-10"),
    "resnet_50": ("ResNet", "ResNet-50"),
    "resnet_50 +model.width_per_group=128": ("ResNet", "ResNet-50 (1x128d)"),
    "torchvision": ("vgg16_bn", "vgg16_bn"),
    "timm": ("rdnet_tiny", "rdnet_tiny"),
    "history/lenet_5": ("LeNet5", "LeNet-5"),
    "history/alexnet_2012": ("AlexNet", "AlexNet"),
    "history/googlenet_2014": ("GoogLeNet", "GoogLeNet"),
    "history/inception_resnet_v1": ("InceptionResNetV1", "Inception-ResNet v1"),
    "history/resnext_101_32x48d": ("ResNeXt", "ResNeXt-101 (32x48d)"),
    "history/vgg_16_cifar": ("vgg_cifar", "VGG-16 with batch norm"),
    "history/resnext_29_cifar model.base_width=8": ("resnext_cifar", "ResNeXt-29 (8x8d)"),
}


@pytest.mark.parametrize("words", NAMES)
def test_each_network_has_its_name(config, words):
    choice, *options = words.split()
    model = config(f"model={choice}", *options)["model"]
    assert (family(model), network_name(model)) == NAMES[words]


def test_other_classes_are_named_by_their_own_name():
    model = {"_target_": "mine.networks.SparseNet", "depth": 5}
    assert family(model) == network_name(model) == "SparseNet"


@pytest.mark.parametrize(
    ("choice", "other", "phrases"),
    [
        ("wide_resnet_16_4", "model.init=fan_out", ["init=fan_in"]),
        ("preact_resnet_164", "model.stride=3x3", ["stride=first"]),
        ("preact_resnet_110", "model.first_activation=in_branch", ["first_activation=before_split"]),
        ("densenet_bc_100 model.bn_size=2", "model.bn_size=4", ["bn_size=2"]),
        ("resnet_110 model.shortcut=pool model.bias=true", "model.bias=false", ["bias=true"]),
    ],
)
def test_networks_of_one_name_are_told_apart_by_their_options(config, choice, other, phrases):
    configs = [config(f"model={choice.split()[0]}", *choice.split()[1:], *own) for own in ([], [other])]
    models = [one["model"] for one in configs]
    assert network_name(models[0]) == network_name(models[1])
    assert setting(configs[0]) != setting(configs[1])
    options = [acting_options(one) for one in configs]
    named, unnamed = differing_among_peers(options, [family(model) for model in models])
    assert [phrase(name, options[0][name]) for name in named] == phrases
    assert not unnamed  # of a record that lacks the option, too
