"""Networks of torchvision and timm with smaller strides, for images of 32x32 instead of 224x224."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn
from torchvision import models
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.models.vgg import cfgs, make_layers

from densenet_cli.models.depth import repeats
from densenet_cli.models.first_convolution import reading
from densenet_cli.models.initialisation import initialise
from densenet_cli.models.resnet import conv3x3
from densenet_cli.models.timm_models import timm_model
from densenet_cli.options import choice, whole_number

VGG_CONFIGURATIONS = {11: "A", 13: "B", 16: "D", 19: "E"}  # arXiv:1409.1556, table 1


def alexnet_cifar(num_classes: int, in_channels: int = 3) -> nn.Module:
    """AlexNet: images (N, C, 32, 32) -> logits (N, num_classes).

    torchvision's (arXiv:1404.5997), but the first convolution padded by 5, pooling over 2x2, and one
    linear layer instead of three: as in bearpaw/pytorch-classification, models/alexnet.py.

    Raises:
        OptionError: num_classes is below 1.
    """
    whole_number("num_classes", num_classes, example=10)
    network = models.alexnet(num_classes=num_classes)
    network.features[0].padding = (5, 5)
    for pooling in (2, 5, 12):
        network.features[pooling].kernel_size = 2
    network.avgpool = nn.Identity()
    network.classifier = nn.Linear(256, num_classes)
    return reading(network, in_channels)


def vgg_cifar(num_classes: int, depth: int = 16, in_channels: int = 3) -> nn.Module:
    """VGG (arXiv:1409.1556) with batch norm: images (N, C, 32, 32) -> logits (N, num_classes).

    The convolutions are torchvision's; one linear layer instead of three, as the five poolings leave
    a single pixel: as in kuangliu/pytorch-cifar, models/vgg.py.

    Args:
        num_classes: width of the classifier, 1 or more.
        depth: 11, 13, 16 or 19: convolutions and the three linear layers of the paper's network.
        in_channels: C of the images: 3 colours, or 1 grey level.

    Raises:
        OptionError: an argument breaks a rule above.
    """
    whole_number("num_classes", num_classes, example=10)
    choice("depth", depth, tuple(VGG_CONFIGURATIONS))
    network = nn.Sequential(
        OrderedDict(
            features=make_layers(cfgs[VGG_CONFIGURATIONS[depth]], batch_norm=True),
            flatten=nn.Flatten(),
            classifier=nn.Linear(512, num_classes),
        )
    )
    initialise(reading(network, in_channels))
    return network


def resnext_cifar(
    num_classes: int,
    depth: int = 29,
    cardinality: int = 8,
    base_width: int = 64,
    in_channels: int = 3,
) -> nn.Module:
    """ResNeXt (arXiv:1611.05431, section 5.3): images (N, C, H, W) -> logits (N, num_classes).

    torchvision's, but a first convolution of 3x3 with stride 1, no pooling after it, and three
    stages instead of four.

    Args:
        num_classes: width of the classifier, 1 or more.
        depth: 9n + 2, shortcuts not counted; the paper's is 29.
        cardinality: paths of a block, 1 or more; the paper's are 8 and 16.
        base_width: channels of a path in the first stage, 1 or more; the paper's is 64.
        in_channels: C of the images: 3 colours, or 1 grey level.

    Raises:
        OptionError: an argument breaks a rule above.
    """
    whole_number("num_classes", num_classes, example=10)
    whole_number("cardinality", cardinality, example=8)
    whole_number("base_width", base_width, example=64)
    blocks = repeats(depth, step=9, extra=2, family="a CIFAR ResNeXt")
    stages = [blocks, blocks, blocks, 1]
    network = ResNet(Bottleneck, stages, num_classes, groups=cardinality, width_per_group=base_width)
    network.conv1 = conv3x3(in_channels, 64)
    network.maxpool = network.layer4 = nn.Identity()
    network.fc = nn.Linear(256 * Bottleneck.expansion, num_classes)
    initialise(network)
    return network


def mobilenet_v1_cifar(num_classes: int, in_channels: int = 3) -> nn.Module:
    """MobileNet v1 (arXiv:1704.04861): images (N, C, H, W) -> logits (N, num_classes).

    timm's, whose ReLUs are cut off at 6, but the first convolution has stride 1: as in
    kuangliu/pytorch-cifar, models/mobilenet.py.

    Raises:
        OptionError: num_classes is below 1.
        UserError: timm is not installed.
    """
    network = timm_model("mobilenetv1_100", num_classes, in_channels)
    _set_stride_1(network, "conv_stem")
    return network


def mobilenet_v2_cifar(num_classes: int, in_channels: int = 3) -> nn.Module:
    """MobileNet v2 (arXiv:1801.04381): images (N, C, H, W) -> logits (N, num_classes).

    torchvision's, but stride 1 in the first convolution and in the stage of 24 channels: as in
    kuangliu/pytorch-cifar, models/mobilenetv2.py.

    Raises:
        OptionError: num_classes is below 1.
    """
    whole_number("num_classes", num_classes, example=10)
    network = models.mobilenet_v2(num_classes=num_classes)
    _set_stride_1(network, "features.0.0", "features.2.conv.1.0")
    return reading(network, in_channels)


def _set_stride_1(network: nn.Module, *names: str) -> None:
    for name in names:
        conv = network.get_submodule(name)
        assert isinstance(conv, nn.Conv2d)
        conv.stride = (1, 1)
