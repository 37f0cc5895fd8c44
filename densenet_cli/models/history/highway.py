"""Highway network (Srivastava, Greff and Schmidhuber 2015, arXiv:1507.06228), of 19 layers for CIFAR.

Layers and start values are those of the authors' code, examples/highways/cifar10-19layers of
flukeskywalker/highway-networks ("Highway 2" of arXiv:1505.00387, table 1), but that the classifier
is as wide as there are classes, and the first convolution starts as the others do.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from densenet_cli.options import number, whole_number

STAGES = ((32, 4), (80, 5), (128, 5))  # channels, highway layers


class HighwayLayer(nn.Module):
    """y = H(x) · T(x) + x · (1 - T(x)) (equation 3): (N, channels, H, W) -> the same shape.

    H is a 3x3 convolution with ReLU, T one with a sigmoid.

    Args:
        channels: of x and y.
        transform_bias: start value of T's bias; below zero, so that x is carried through at first.
    """

    def __init__(self, channels: int, transform_bias: float) -> None:
        super().__init__()
        self.transform = _convolution(channels, channels)
        self.gate = _convolution(channels, channels, bias=transform_bias)

    def forward(self, x: Tensor) -> Tensor:
        """Each element transformed as far as its gate is open."""
        return torch.lerp(x, F.relu(self.transform(x)), torch.sigmoid(self.gate(x)))


class HighwayNetwork(nn.Module):
    """Highway network of 19 layers: images (N, C, H, W) -> logits (N, num_classes).

    Args:
        num_classes: width of the classifier, 1 or more.
        transform_bias: start value of the gates' biases; the authors: -2 here.
        dropout: probability in [0, 1) of dropping an element, before each stage and the classifier.
        in_channels: C of the images: 3 colours, or 1 grey level.

    Raises:
        OptionError: an argument breaks a rule above.
    """

    def __init__(
        self,
        num_classes: int,
        transform_bias: float = -2.0,
        dropout: float = 0.2,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        whole_number("num_classes", num_classes, example=10)
        whole_number("in_channels", in_channels, example=3)
        number("transform_bias", transform_bias, example=-2)
        number("dropout", dropout, example=0.2, at_least=0, below=1)
        stages: list[nn.Module] = []
        for channels, layers in STAGES:
            stages += [nn.MaxPool2d(2)] if stages else []
            stages += [nn.Dropout(dropout), _convolution(in_channels, channels), nn.ReLU()]
            stages += [HighwayLayer(channels, transform_bias) for _ in range(layers)]
            in_channels = channels
        self.stages = nn.Sequential(*stages, _convolution(in_channels, 100, kernel_size=1), nn.ReLU())
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(100, num_classes)
        nn.init.normal_(self.fc.weight, std=0.05)
        nn.init.zeros_(self.fc.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images."""
        return self.fc(self.dropout(self.stages(images).mean(dim=(2, 3))))


def _convolution(
    in_channels: int, out_channels: int, kernel_size: int = 3, bias: float = 0.0
) -> nn.Conv2d:
    """A convolution that keeps the size; weights uniform, of variance 1 / inputs of a unit."""
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
    nn.init.kaiming_uniform_(conv.weight, nonlinearity="linear")
    nn.init.constant_(conv.get_parameter("bias"), bias)
    return conv
