"""DenseNet (Huang et al. 2017, arXiv:1608.06993): plain, -B, -C and -BC, for CIFAR and ImageNet.

Shapes: N images, C channels, H × W pixels, k = growth_rate.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from densenet_cli.models.depth import repeats
from densenet_cli.models.initialisation import initialise
from densenet_cli.options import OptionError, UserError, choice, number, switch, whole_number

# Layers in each block by depth: table 1; 161 is in version 3 of the paper, 232 in arXiv:1707.06990.
IMAGENET_BLOCKS = {
    121: (6, 12, 24, 16),
    161: (6, 12, 36, 24),
    169: (6, 12, 32, 32),
    201: (6, 12, 48, 32),
    232: (6, 12, 48, 48),
    264: (6, 12, 64, 48),
}


class PlainLayer(nn.Module):
    """BN-ReLU-conv3x3: (N, C, H, W) -> (N, k, H, W), only the new feature maps."""

    def __init__(self, in_channels: int, growth_rate: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, growth_rate, kernel_size=3, padding=1, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """The k new feature maps."""
        return self.dropout(self.conv1(F.relu(self.norm1(x))))


class BottleneckLayer(nn.Module):
    """BN-ReLU-conv1x1-BN-ReLU-conv3x3: (N, C, H, W) -> (N, k, H, W), only the new feature maps.

    The 1x1 convolution makes bn_size·k maps.
    """

    def __init__(self, in_channels: int, growth_rate: int, dropout: float, bn_size: int = 4) -> None:
        super().__init__()
        hidden = bn_size * growth_rate
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, hidden, kernel_size=1, bias=False)
        self.norm2 = nn.BatchNorm2d(hidden)
        self.conv2 = nn.Conv2d(hidden, growth_rate, kernel_size=3, padding=1, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """The k new feature maps."""
        x = self.dropout(self.conv1(F.relu(self.norm1(x))))  # (N, bn_size·k, H, W)
        return self.dropout(self.conv2(F.relu(self.norm2(x))))


class DenseBlock(nn.ModuleDict):
    """Layers that each read all feature maps before them: (N, C, H, W) -> (N, C + layers·k, H, W).

    The output is the block's input, followed by the new maps of layer 1, 2, ...
    """

    def __init__(
        self,
        in_channels: int,
        layers: int,
        growth_rate: int,
        bottleneck: bool,
        dropout: float,
        bn_size: int = 4,
    ) -> None:
        super().__init__()
        bottleneck_layer = functools.partial(BottleneckLayer, bn_size=bn_size)
        make_layer = bottleneck_layer if bottleneck else PlainLayer
        for index in range(layers):
            layer = make_layer(in_channels + index * growth_rate, growth_rate, dropout)
            self[f"denselayer{index + 1}"] = layer

    def forward(self, x: Tensor) -> Tensor:
        """The block's input and the new maps of all layers, concatenated."""
        for layer in self.values():
            x = torch.cat([x, layer(x)], dim=1)
        return x


class Transition(nn.Module):
    """BN-ReLU-conv1x1, then 2x2 average pooling: (N, C, H, W) -> (N, out_channels, H/2, W/2)."""

    def __init__(self, in_channels: int, out_channels: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels)
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Fewer and smaller feature maps; an odd last row or column is left out."""
        return F.avg_pool2d(self.dropout(self.conv(F.relu(self.norm(x)))), kernel_size=2)


class DenseNet(nn.Module):
    """DenseNet: images (N, C, H, W) -> logits (N, num_classes).

    Plain: bottleneck=False, compression=1. -B: bottleneck. -C: compression < 1. -BC: both.

    Modules have torchvision's names, so that the state dicts of its densenet121, 161, 169 and 201 can
    be loaded; the last batch norm is called `norm5`, whatever the number of blocks.

    The kernels refuse layers with attributes that they do not know: an option that changes what a layer
    computes must be stored in the layer, or be a module of it.

    Args:
        num_classes: width of the classifier, 1 or more.
        growth_rate: k, the number of feature maps that each layer adds, 1 or more.
        depth: number of convolutions and linear layers. With the cifar stem it determines three equal
            blocks: 6n + 4 with bottleneck layers, 3n + 4 without (sec. 3). With the imagenet stem
            it is one of `IMAGENET_BLOCKS`, with bottleneck layers (table 1).
        block_config: number of layers in each block; if given, depth is not used.
        bottleneck: whether each layer begins with a 1x1 convolution to bn_size·k maps.
        compression: θ in (0, 1]; a transition turns m maps into floor(θ·m). The product is computed in
            double precision, as in Torch7: θ=0.7 makes 62 of 90 maps, not 63.
        stem: "cifar" (3x3 convolution) or "imagenet" (7x7 convolution and max pooling, both of
            stride 2).
        init_channels: number of maps after the stem. By default 16 for a plain net with the cifar stem
            and 2k for all others, as the sizes in table 2 require.
        dropout: probability in [0, 1) of dropping an element after each convolution but the first
            (sec. 3; the paper uses 0.2 on data without augmentation).
        bn_size: the width of bottlenecks in units of k, 1 or more; 4 in the paper. Layers without
            bottlenecks do not use it.
        init: see `initialise`.
        in_channels: C of the images: 3 colours, or 1 grey level.

    Attributes:
        block_config: number of layers in each block.
        depth: number of convolutions and linear layers: 265 for the net that table 1 calls 264, and 233
            for 232.
        smallest_image: smallest height and width of an image, in pixels.

    Raises:
        OptionError: an argument breaks a rule above, or a transition would keep no map.
    """

    def __init__(
        self,
        num_classes: int,
        growth_rate: int,
        depth: int,
        block_config: Sequence[int] | None = None,
        bottleneck: bool = True,
        compression: float = 0.5,
        stem: str = "cifar",
        init_channels: int | None = None,
        dropout: float = 0.0,
        bn_size: int = 4,
        init: str = "fan_out",
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        whole_number("num_classes", num_classes, example=10)
        whole_number("growth_rate", growth_rate, example=12)
        whole_number("in_channels", in_channels, example=3)
        number("compression", compression, example=0.5, above=0, at_most=1)
        number("dropout", dropout, example=0.2, at_least=0, below=1)
        whole_number("bn_size", bn_size, example=4)
        choice("stem", stem, ("cifar", "imagenet"))
        switch("bottleneck", bottleneck)
        self.block_config = _layers_of_blocks(block_config, depth, stem, bottleneck)
        transitions = len(self.block_config) - 1
        self.depth = 1 + (2 if bottleneck else 1) * sum(self.block_config) + transitions + 1
        # The imagenet stem halves twice, rounding up; every transition halves, rounding down.
        self.smallest_image = 2**transitions if stem == "cifar" else 4 * 2**transitions - 3

        if init_channels is None:
            is_plain = not bottleneck and compression == 1
            init_channels = 16 if is_plain and stem == "cifar" else 2 * growth_rate
        channels = whole_number("init_channels", init_channels, example=2 * growth_rate)
        self.features = _stem(stem, in_channels, channels)
        for index, layers in enumerate(self.block_config, start=1):
            block = DenseBlock(channels, layers, growth_rate, bottleneck, dropout, bn_size)
            self.features.add_module(f"denseblock{index}", block)
            channels += layers * growth_rate
            if index <= transitions:
                kept = _compressed(channels, compression)
                self.features.add_module(f"transition{index}", Transition(channels, kept, dropout))
                channels = kept
        self.features.add_module("norm5", nn.BatchNorm2d(channels))
        self.classifier = nn.Linear(channels, num_classes)
        initialise(self, init)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images. Raises UserError if these are smaller than `smallest_image`."""
        self._check_size(images)
        maps = F.relu(self.features(images))
        return self.classifier(maps.mean(dim=(2, 3)))

    def _check_size(self, images: Tensor) -> None:
        height, width = images.shape[-2:]
        if height < self.smallest_image or width < self.smallest_image:
            raise UserError(
                f"images of {height} × {width} pixels are too small for this DenseNet of "
                f"{len(self.block_config)} blocks, which needs at least {self.smallest_image} × "
                f"{self.smallest_image}"
            )


def _layers_of_blocks(
    block_config: Sequence[int] | None, depth: int, stem: str, bottleneck: bool
) -> tuple[int, ...]:
    """Layers in each block: block_config if given, else those of the depth."""
    if block_config is not None:
        return _checked_blocks(block_config)
    if stem == "cifar":
        family = f"a DenseNet {'with' if bottleneck else 'without'} bottleneck layers"
        return (repeats(depth, step=6 if bottleneck else 3, extra=4, family=family),) * 3
    if not bottleneck:
        rule = "must be true with the imagenet stem, whose depths count bottleneck layers, "
        raise OptionError("bottleneck", bottleneck, rule + "unless block_config is given", True)
    return IMAGENET_BLOCKS[choice("depth", depth, sorted(IMAGENET_BLOCKS))]


def _checked_blocks(block_config: Sequence[int]) -> tuple[int, ...]:
    """block_config as a tuple. Raises OptionError unless it is a list of whole numbers."""
    is_list = isinstance(block_config, Sequence) and not isinstance(block_config, str)
    blocks = list(block_config) if is_list else []
    if not blocks or any(type(layers) is not int or layers < 1 for layers in blocks):
        typed = blocks if is_list else block_config
        rule = "must be a list of whole numbers, 1 or more: the layers in each block"
        raise OptionError("block_config", typed, rule, [6, 12, 24, 16])
    return tuple(blocks)


def _compressed(channels: int, compression: float) -> int:
    """The number of maps after a transition. Raises OptionError if there would be none."""
    kept = math.floor(channels * compression)
    if kept == 0:
        rule = f"leaves none of the {channels} feature maps after a block; must be larger"
        raise OptionError("compression", compression, rule, 0.5)
    return kept


def _stem(stem: str, in_channels: int, out_channels: int) -> nn.Sequential:
    """What is before the first block: (N, in_channels, H, W) -> (N, out_channels, H, W) or H/4, W/4."""
    layers = nn.Sequential()
    if stem == "cifar":
        conv = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False)
        layers.add_module("conv0", conv)
        return layers
    conv = nn.Conv2d(in_channels, out_channels, kernel_size=7, stride=2, padding=3, bias=False)
    layers.add_module("conv0", conv)
    layers.add_module("norm0", nn.BatchNorm2d(out_channels))
    layers.add_module("relu0", nn.ReLU())
    layers.add_module("pool0", nn.MaxPool2d(kernel_size=3, stride=2, padding=1))
    return layers
