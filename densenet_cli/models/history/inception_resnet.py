"""Inception-ResNet v1 (Szegedy, Ioffe, Vanhoucke and Alemi 2016, arXiv:1602.07261, figure 15)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from densenet_cli.models.history.bn_inception import Branches
from densenet_cli.models.initialisation import initialise
from densenet_cli.options import number, whole_number

Convolutions = Sequence[tuple[int, int | tuple[int, int]]]
"""Convolutions in sequence: the channels of each, and the side of its kernel, or height and width."""

A: list[Convolutions] = [[(32, 1)], [(32, 1), (32, 3)], [(32, 1), (32, 3), (32, 3)]]  # figure 10
B: list[Convolutions] = [[(128, 1)], [(128, 1), (128, (1, 7)), (128, (7, 1))]]  # figure 11
C: list[Convolutions] = [[(192, 1)], [(192, 1), (192, (1, 3)), (192, (3, 1))]]  # figure 13
# Beside a pooling; the last convolution of each has stride 2.
REDUCTION_A: list[Convolutions] = [[(384, 3)], [(192, 1), (192, 3), (256, 3)]]  # figure 7, table 1
REDUCTION_B: list[Convolutions] = [  # figure 12
    *([(256, 1), (384, 3)], [(256, 1), (256, 3)], [(256, 1), (256, 3), (256, 3)]),
]
BATCH_NORM = partial(nn.BatchNorm2d, eps=1e-3)  # as the authors' code, and timm's version 2
SCALES = {"A": 0.17, "B": 0.1, "C": 0.2}


class ScaledResidual(nn.Module):
    """ReLU(x + scale x f(x)) with an Inception module f: (N, channels, H, W) -> the same.

    Args:
        channels: of input and output.
        branches: the convolutions of the module, each with batch norm and ReLU. A 1x1 convolution with
            a bias and without batch norm gives their maps the channels of the input.
        scale: see section 3.3.
    """

    def __init__(self, channels: int, branches: Sequence[Convolutions], scale: float) -> None:
        super().__init__()
        self.branches = Branches(_in_sequence(channels, branch) for branch in branches)
        self.linear = nn.Conv2d(sum(branch[-1][0] for branch in branches), channels, kernel_size=1)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Maps of the same shape."""
        return (x + self.scale * self.linear(self.branches(x))).relu()


class InceptionResNetV1(nn.Module):
    """Inception-ResNet v1: images (N, C, H, W) -> logits (N, num_classes), H and W 299 in the paper.

    The paper scales residuals by 0.1 to 0.3. The scales here and ε of batch norm are those of the
    authors' code of version 2 (tensorflow/models, slim/nets/inception_resnet_v2.py).

    Args:
        num_classes: width of the classifier, 1 or more.
        dropout: probability in [0, 1) of dropping an input of the classifier.
        in_channels: C of the images: 3 colours, or 1 grey level.

    Raises:
        OptionError: an argument breaks a rule above.
    """

    def __init__(self, num_classes: int, dropout: float = 0.2, in_channels: int = 3) -> None:
        super().__init__()
        whole_number("num_classes", num_classes, example=10)
        number("dropout", dropout, example=0.2, at_least=0, below=1)
        whole_number("in_channels", in_channels, example=3)
        self.stem = nn.Sequential(  # figure 14
            _convolution(in_channels, 32, 3, stride=2, padding=0),
            _convolution(32, 32, 3, padding=0),
            _convolution(32, 64, 3),
            nn.MaxPool2d(3, stride=2),
            _convolution(64, 80, 1),
            _convolution(80, 192, 3, padding=0),
            _convolution(192, 256, 3, stride=2, padding=0),
        )
        self.a = nn.Sequential(*(ScaledResidual(256, A, SCALES["A"]) for _ in range(5)))
        self.reduction_a = _reduction(256, REDUCTION_A)
        self.b = nn.Sequential(*(ScaledResidual(896, B, SCALES["B"]) for _ in range(10)))
        self.reduction_b = _reduction(896, REDUCTION_B)
        self.c = nn.Sequential(*(ScaledResidual(1792, C, SCALES["C"]) for _ in range(5)))
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(1792, num_classes)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images."""
        maps = self.reduction_a(self.a(self.stem(images)))
        maps = self.c(self.reduction_b(self.b(maps)))
        return self.fc(self.dropout(maps.mean(dim=(2, 3))))


def _convolution(
    in_channels: int,
    out_channels: int,
    kernel: int | tuple[int, int],
    stride: int = 1,
    padding: int | None = None,
) -> nn.Sequential:
    """A convolution without a bias, batch norm and ReLU; padding None keeps height and width."""
    return Conv2dNormActivation(
        in_channels, out_channels, kernel, stride, padding, norm_layer=BATCH_NORM
    )


def _in_sequence(channels: int, convolutions: Convolutions, last_stride: int = 1) -> nn.Sequential:
    """Convolutions that keep height and width; with a last stride of 2 the last one has no padding."""
    layers = []
    for index, (out_channels, kernel) in enumerate(convolutions, start=1):
        shrinks = last_stride > 1 and index == len(convolutions)
        stride, padding = (last_stride, 0) if shrinks else (1, None)
        layers.append(_convolution(channels, out_channels, kernel, stride, padding))
        channels = out_channels
    return nn.Sequential(*layers)


def _reduction(channels: int, branches: Sequence[Convolutions]) -> Branches:
    """Half of height and width: (N, C, H, W) -> (N, C + the channels of the branches, ...)."""
    convolutions = (_in_sequence(channels, branch, last_stride=2) for branch in branches)
    return Branches([*convolutions, nn.MaxPool2d(3, stride=2)])
