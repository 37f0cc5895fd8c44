"""ResNet for CIFAR (He et al. 2016, arXiv:1512.03385, sec. 4.2) and its plain counterpart.

Stochastic depth is that of Huang et al. 2016, arXiv:1603.09382.
"""

from __future__ import annotations

import random

from torch import Tensor, nn
from torch.nn import functional as F

from densenet_cli.models.depth import repeats
from densenet_cli.models.initialisation import initialise
from densenet_cli.models.stochastic_depth import StochasticBranch, own_draws
from densenet_cli.options import OptionError, choice, number, switch, whole_number


class ZeroPadShortcut(nn.Module):
    """Option A, without parameters: every stride-th pixel, and zeros for the missing channels.

    (N, in_channels, H, W) -> (N, out_channels, H/stride, W/stride), sizes rounded up.

    Args:
        in_channels: channels of x.
        out_channels: channels of the output.
        stride: 1 or 2.
        pools: whether pixels are means of stride x stride pixels, in place of one of them.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, pools: bool = False) -> None:
        super().__init__()
        self.missing_channels, self.stride, self.pools = out_channels - in_channels, stride, pools

    def forward(self, x: Tensor) -> Tensor:
        """The channels of x, then the zero channels."""
        if self.pools:
            x = F.avg_pool2d(x, self.stride, ceil_mode=True)
        else:
            x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, 0, self.missing_channels))


class ResidualBlock(StochasticBranch):
    """relu(shortcut(x) + f(x)), f = conv3x3-BN-ReLU-conv3x3-BN.

    (N, in_channels, H, W) -> (N, out_channels, H/stride, W/stride), sizes rounded up.

    Args:
        in_channels: channels of x.
        out_channels: channels of the output.
        stride: of the first convolution and of the shortcut.
        shortcut: "A", "B" or "pool", used where the shape changes; see `ResNet`.
        survival, draws: of f; see `StochasticBranch`.
        bias: whether convolutions have biases.
    """

    BRANCH = "conv1", "bn1", "conv2", "bn2"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        shortcut: str,
        survival: float = 1.0,
        bias: bool = False,
        draws: random.Random | None = None,
    ) -> None:
        super().__init__(survival, draws)
        self.conv1 = conv3x3(in_channels, out_channels, stride, bias)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = conv3x3(out_channels, out_channels, bias=bias)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if (in_channels, stride) != (out_channels, 1):
            if shortcut == "B":
                conv = nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=bias)
                self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(out_channels))
            else:
                pools = shortcut == "pool"
                self.shortcut = ZeroPadShortcut(in_channels, out_channels, stride, pools)

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        if self.is_left_out():
            return F.relu(self.without_branch(self.shortcut(x)))
        maps = F.relu(self.bn1(self.conv1(x)))
        maps = self.bn2(self.conv2(maps))
        return F.relu(self.shortcut(x) + self.weighted(maps))


def plain_block(in_channels: int, out_channels: int, stride: int, bias: bool) -> list[nn.Module]:
    """The layers of a residual block without its shortcut: relu(f(x))."""
    return [
        conv3x3(in_channels, out_channels, stride, bias),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
        conv3x3(out_channels, out_channels, bias=bias),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    ]


class ResNet(nn.Module):
    """CIFAR ResNet of depth 6n + 2: images (N, C, H, W) -> logits (N, num_classes).

    A 3x3 convolution; three stages of n blocks with 16, 32 and 64 channels, the second and third
    with half the height and width of the one before; global average; linear. Without shortcuts it is
    the paper's plain network: the same layers with the same start values, one after another.

    Args:
        num_classes: width of the classifier, 1 or more.
        depth: number of convolutions and linear layers, without shortcuts: 20, 32, 44, 56, 110, 1202.
        shortcut: where the shape changes, "A" subsamples and adds zero channels (no parameters),
            "B" is a 1x1 convolution with batch norm. The paper's CIFAR nets use A. "pool" is A with the
            mean of 2x2 pixels in place of one of them, as in the code of stochastic depth
            (yueatsprograms/Stochastic_Depth, ResidualDrop.lua). "none": a plain network, without
            shortcuts.
        survival_probability: p_L in (0, 1], the probability of keeping the last of the L blocks in a
            training step; block l has p_l = 1 - l/L · (1 - p_L). None or 1: no stochastic depth.
            The paper uses 0.5. A plain network cannot have it. Other blocks are not computed.
        bias: whether convolutions have biases, which start at 0. In the code of stochastic depth they
            do, though batch norm subtracts them again.
        init: see `initialise`. The code of stochastic depth has "fan_in".
        in_channels: C of the images: 3 colours, or 1 grey level.

    Raises:
        OptionError: an argument breaks a rule above.
    """

    def __init__(
        self,
        num_classes: int,
        depth: int,
        shortcut: str = "A",
        survival_probability: float | None = None,
        bias: bool = False,
        init: str = "fan_out",
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        whole_number("num_classes", num_classes, example=10)
        whole_number("in_channels", in_channels, example=3)
        choice("shortcut", shortcut, ("A", "B", "pool", "none"))
        switch("bias", bias)
        blocks = repeats(depth, step=6, extra=2, family="a CIFAR ResNet")
        last_survival = _last_survival(survival_probability, shortcut)
        self.conv1 = conv3x3(in_channels, 16, bias=bias)
        self.bn1 = nn.BatchNorm2d(16)
        draws = own_draws()
        stages: list[nn.Module] = []
        channels = 16
        for width in (16, 32, 64):
            stage: list[nn.Module] = []
            for index in range(blocks):
                stride = 2 if stages and index == 0 else 1
                position = (len(stages) * blocks + index + 1) / (3 * blocks)  # l/L
                survival = 1 - position * (1 - last_survival)
                if shortcut == "none":
                    stage += plain_block(channels, width, stride, bias)
                else:
                    stage.append(
                        ResidualBlock(channels, width, stride, shortcut, survival, bias, draws)
                    )
                channels = width
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)
        self.fc = nn.Linear(channels, num_classes)
        initialise(self, init)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images."""
        maps = self.stages(F.relu(self.bn1(self.conv1(images))))
        return self.fc(maps.mean(dim=(2, 3)))


def _last_survival(survival_probability: float | None, shortcut: str) -> float:
    if survival_probability is None:
        return 1.0
    if shortcut == "none":
        rule = "a plain network (shortcut=none) has no blocks to drop: must be null"
        raise OptionError("survival_probability", survival_probability, rule)
    return number("survival_probability", survival_probability, example=0.5, above=0, at_most=1)


def conv3x3(in_channels: int, out_channels: int, stride: int = 1, bias: bool = False) -> nn.Conv2d:
    """A 3x3 convolution that keeps the size, or with stride 2 halves it, rounding up."""
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=bias)
