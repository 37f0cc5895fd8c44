"""GoogLeNet (Szegedy et al. 2014, arXiv:1409.4842, table 1 and figure 3) as published."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import Conv2dNormActivation

from densenet_cli.models.history.bn_inception import Branches
from densenet_cli.options import number, switch, whole_number


class Widths(NamedTuple):
    """Channels of one Inception module, by their columns in table 1.

    Attributes:
        single: of the 1x1 convolution.
        triple: of the 1x1 convolution, and of the 3x3 convolution after it.
        quintuple: of the 1x1 convolution, and of the 5x5 convolution after it.
        projected: of the 1x1 convolution after the pooling.
    """

    single: int
    triple: tuple[int, int]
    quintuple: tuple[int, int]
    projected: int

    @property
    def total(self) -> int:
        """Channels of the module's output."""
        return self.single + self.triple[1] + self.quintuple[1] + self.projected


MODULES = {
    "3a": Widths(64, (96, 128), (16, 32), 32),
    "3b": Widths(128, (128, 192), (32, 96), 64),
    "4a": Widths(192, (96, 208), (16, 48), 64),
    "4b": Widths(160, (112, 224), (24, 64), 64),
    "4c": Widths(128, (128, 256), (24, 64), 64),
    "4d": Widths(112, (144, 288), (32, 64), 64),
    "4e": Widths(256, (160, 320), (32, 128), 128),
    "5a": Widths(256, (160, 320), (32, 128), 128),
    "5b": Widths(384, (192, 384), (48, 128), 128),
}
AUXILIARY_DROPOUT = 0.7  # section 5


class AuxiliaryPooling(nn.Module):
    """Averages of 5x5 with stride 3 if the images have 224x224 pixels: (N, C, H, W) -> (N, C, 4, 4)."""

    def forward(self, x: Tensor) -> Tensor:
        """16 averages of each map; of 4x4 equal parts where the maps are not of 14x14."""
        if x.shape[2:] == (14, 14):
            return F.avg_pool2d(x, kernel_size=5, stride=3)
        return F.adaptive_avg_pool2d(x, 4)


class GoogLeNet(nn.Module):
    """GoogLeNet: images (N, C, H, W) -> logits (N, num_classes), H and W 224 in the paper.

    Without batch norm, with 5x5 convolutions and local response normalisation, unlike torchvision's.
    The paper gives no constants of that normalisation and no start values: they are those of
    BVLC/caffe, models/bvlc_googlenet/train_val.prototxt (Xavier, biases 0.2).

    Args:
        num_classes: width of the classifier, 1 or more.
        auxiliary: whether it has the two auxiliary classifiers, after modules 4a and 4d. In training
            mode it then returns (3, N, num_classes): its logits and theirs.
        dropout: probability in [0, 1) of dropping an input of the classifier.
        in_channels: C of the images: 3 colours, or 1 grey level.

    Raises:
        OptionError: an argument breaks a rule above.
    """

    def __init__(
        self, num_classes: int, auxiliary: bool = False, dropout: float = 0.4, in_channels: int = 3
    ) -> None:
        super().__init__()
        whole_number("num_classes", num_classes, example=10)
        switch("auxiliary", auxiliary)
        number("dropout", dropout, example=0.4, at_least=0, below=1)
        whole_number("in_channels", in_channels, example=3)
        self.stem = nn.Sequential(
            _convolution(in_channels, 64, 7, stride=2),
            _pooling(),
            _local_response_normalisation(),
            _convolution(64, 64, 1),
            _convolution(64, 192, 3),
            _local_response_normalisation(),
            _pooling(),
        )
        self.to_4a = nn.Sequential(
            _module(192, "3a"), _module(256, "3b"), _pooling(), _module(480, "4a")
        )
        self.to_4d = nn.Sequential(_module(512, "4b"), _module(512, "4c"), _module(512, "4d"))
        self.to_5b = nn.Sequential(
            _module(528, "4e"), _pooling(), _module(832, "5a"), _module(832, "5b")
        )
        channels = [MODULES[name].total for name in ("4a", "4d")] if auxiliary else []
        self.auxiliary = nn.ModuleList(_auxiliary_classifier(each, num_classes) for each in channels)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(MODULES["5b"].total, num_classes)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                fan_in = module.weight[0].numel()
                nn.init.uniform_(module.weight, -((3 / fan_in) ** 0.5), (3 / fan_in) ** 0.5)
                assert module.bias is not None
                nn.init.constant_(module.bias, 0.2)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images; with auxiliary classifiers and in training mode, also theirs."""
        maps_4a = self.to_4a(self.stem(images))
        maps_4d = self.to_4d(maps_4a)
        logits = self.fc(self.dropout(self.to_5b(maps_4d).mean(dim=(2, 3))))
        if not (self.training and self.auxiliary):
            return logits
        theirs = [one(maps) for one, maps in zip(self.auxiliary, (maps_4a, maps_4d), strict=True)]
        return torch.stack([logits, *theirs])


def _convolution(in_channels: int, out_channels: int, side: int, stride: int = 1) -> nn.Sequential:
    """A side x side convolution with a bias, and ReLU; H -> H / stride, rounded up."""
    return Conv2dNormActivation(in_channels, out_channels, side, stride, norm_layer=None)


def _module(in_channels: int, name: str) -> Branches:
    widths = MODULES[name]
    (reduced3, out3), (reduced5, out5) = widths.triple, widths.quintuple
    return Branches(
        [
            _convolution(in_channels, widths.single, 1),
            nn.Sequential(_convolution(in_channels, reduced3, 1), _convolution(reduced3, out3, 3)),
            nn.Sequential(_convolution(in_channels, reduced5, 1), _convolution(reduced5, out5, 5)),
            nn.Sequential(
                nn.MaxPool2d(3, stride=1, padding=1), _convolution(in_channels, widths.projected, 1)
            ),
        ]
    )


def _auxiliary_classifier(in_channels: int, num_classes: int) -> nn.Sequential:
    """Maps (N, C, H, W) -> logits (N, num_classes); section 5."""
    return nn.Sequential(
        AuxiliaryPooling(),
        _convolution(in_channels, 128, 1),
        nn.Flatten(),
        nn.Linear(128 * 4 * 4, 1024),
        nn.ReLU(),
        nn.Dropout(AUXILIARY_DROPOUT),
        nn.Linear(1024, num_classes),
    )


def _pooling() -> nn.MaxPool2d:
    """3x3 with stride 2, also over the rest at the border: 112 -> 56 -> 28 -> 14 -> 7."""
    return nn.MaxPool2d(3, stride=2, ceil_mode=True)


def _local_response_normalisation() -> nn.LocalResponseNorm:
    return nn.LocalResponseNorm(size=5, alpha=1e-4, beta=0.75, k=1)
