"""BN-Inception (Ioffe and Szegedy 2015, arXiv:1502.03167, figure 5), and a small form for CIFAR."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from densenet_cli.models.initialisation import initialise
from densenet_cli.options import whole_number


class Widths(NamedTuple):
    """Channels of one Inception module. One without 1x1 and projection halves height and width.

    Attributes:
        single: of the 1x1 convolution, 0 if there is none.
        triple: of the 3x3 convolution, and of the 1x1 before it.
        double: of the two 3x3 convolutions, and of the 1x1 before them.
        pooling: the class of the pooling.
        projected: of the 1x1 convolution after the pooling, 0 if there is none.
    """

    single: int
    triple: tuple[int, int]
    double: tuple[int, int]
    pooling: type[nn.AvgPool2d] | type[nn.MaxPool2d]
    projected: int


MODULES = [  # 3a to 5b
    Widths(64, (64, 64), (64, 96), nn.AvgPool2d, 32),
    Widths(64, (64, 96), (64, 96), nn.AvgPool2d, 64),
    Widths(0, (128, 160), (64, 96), nn.MaxPool2d, 0),
    Widths(224, (64, 96), (96, 128), nn.AvgPool2d, 128),
    Widths(192, (96, 128), (96, 128), nn.AvgPool2d, 128),
    Widths(160, (128, 160), (128, 160), nn.AvgPool2d, 96),
    Widths(96, (128, 192), (160, 192), nn.AvgPool2d, 96),
    Widths(0, (128, 192), (192, 256), nn.MaxPool2d, 0),
    Widths(352, (192, 320), (160, 224), nn.AvgPool2d, 128),
    Widths(352, (192, 320), (192, 224), nn.MaxPool2d, 128),
]
# Of the small form: channels of the 1x1 and the 3x3 convolution of a module, or of the 3x3 convolution
# of one that halves height and width.
SMALL_MODULES: list[tuple[int, int] | int] = [
    (32, 32),
    (32, 48),
    80,
    (112, 48),
    (96, 64),
    (80, 80),
    (48, 96),
    96,
    (176, 160),
    (176, 160),
]


class Branches(nn.ModuleList):
    """Modules beside each other, their maps concatenated: (N, C, H, W) -> (N, C', H', W')."""

    def forward(self, x: Tensor) -> Tensor:
        """The maps of all branches of x."""
        return torch.cat([branch(x) for branch in self], dim=1)


class BNInception(nn.Module):
    """BN-Inception: images (N, C, H, W) -> logits (N, num_classes).

    As in the paper, the first convolution is separable, with 8 maps of each colour; unlike there,
    the two auxiliary classifiers are left out.

    Args:
        num_classes: width of the classifier, 1 or more.
        in_channels: C of the images: 3 colours, or 1 grey level.

    Raises:
        OptionError: num_classes is below 1.
    """

    def __init__(self, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        whole_number("num_classes", num_classes, example=10)
        whole_number("in_channels", in_channels, example=3)
        self.stem = nn.Sequential(
            nn.Conv2d(
                in_channels, 8 * in_channels, 7, stride=2, padding=3, groups=in_channels, bias=False
            ),
            _convolution(8 * in_channels, 64, 1),
            nn.MaxPool2d(3, stride=2, padding=1),
            _convolution(64, 64, 1),
            _convolution(64, 192, 3),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        modules, channels = [], 192
        for widths in MODULES:
            modules.append(_module(channels, widths))
            channels = (
                widths.single + widths.triple[1] + widths.double[1] + (widths.projected or channels)
            )
        self.inception = nn.Sequential(*modules)
        self.fc = nn.Linear(channels, num_classes)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images."""
        return self.fc(self.inception(self.stem(images)).mean(dim=(2, 3)))


class SmallInception(nn.Module):
    """The small Inception of Zhang et al. 2017, arXiv:1611.03530, figure 3, for images of 28 to 32.

    Images (N, C, H, W) -> logits (N, num_classes). Modules are a 1x1 and a 3x3 convolution beside
    each other, all with batch norm.

    Args:
        num_classes: width of the classifier, 1 or more.
        in_channels: C of the images: 3 colours, or 1 grey level.

    Raises:
        OptionError: num_classes is below 1.
    """

    def __init__(self, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        whole_number("num_classes", num_classes, example=10)
        whole_number("in_channels", in_channels, example=3)
        modules, channels = [], 96
        for widths in SMALL_MODULES:
            if isinstance(widths, int):
                pooling = nn.MaxPool2d(3, stride=2, padding=1)
                modules.append(Branches([_convolution(channels, widths, 3, stride=2), pooling]))
                channels += widths
            else:
                branches = zip(widths, (1, 3), strict=True)
                modules.append(Branches(_convolution(channels, out, side) for out, side in branches))
                channels = sum(widths)
        self.stem = _convolution(in_channels, 96, 3)
        self.inception = nn.Sequential(*modules)
        self.fc = nn.Linear(channels, num_classes)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images."""
        return self.fc(self.inception(self.stem(images)).mean(dim=(2, 3)))


def _convolution(in_channels: int, out_channels: int, side: int, stride: int = 1) -> nn.Sequential:
    """A side x side convolution without a bias, batch norm and ReLU; H -> H / stride, rounded up."""
    return Conv2dNormActivation(in_channels, out_channels, side, stride)


def _module(in_channels: int, widths: Widths) -> Branches:
    (reduced3, out3), (reduced5, out5) = widths.triple, widths.double
    stride = 1 if widths.projected else 2
    branches: list[nn.Module] = []
    if widths.single:
        branches.append(_convolution(in_channels, widths.single, 1))
    branches.append(
        nn.Sequential(_convolution(in_channels, reduced3, 1), _convolution(reduced3, out3, 3, stride))
    )
    branches.append(
        nn.Sequential(
            _convolution(in_channels, reduced5, 1),
            _convolution(reduced5, out5, 3),
            _convolution(out5, out5, 3, stride),
        )
    )
    pooling = widths.pooling(3, stride, padding=1)
    if widths.projected:
        projection = _convolution(in_channels, widths.projected, 1)
        branches.append(nn.Sequential(pooling, projection))
    else:
        branches.append(pooling)
    return Branches(branches)
