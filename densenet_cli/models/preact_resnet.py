"""Pre-activation ResNet for CIFAR (He et al. 2016, "Identity Mappings", arXiv:1603.05027)."""

from __future__ import annotations

import functools

from torch import Tensor, nn
from torch.nn import functional as F

from densenet_cli.models.depth import repeats
from densenet_cli.models.initialisation import initialise
from densenet_cli.models.resnet import ZeroPadShortcut, conv3x3
from densenet_cli.options import choice, whole_number


class PreActivationUnit(nn.Module):
    """x + f(relu(bn(x))), and where the shape changes shortcut(relu(bn(x))) + f(relu(bn(x))).

    (N, in_channels, H, W) -> (N, out_channels, H/stride, W/stride), sizes rounded up.

    Args:
        in_channels: channels of x.
        out_channels: channels of the output.
        stride: of the shortcut; f must have the same.
        branch: f, from in_channels to out_channels; it begins with a convolution.
        shortcut: where the shape changes, "A" subsamples and adds zero channels, "B" is a 1x1
            convolution.
        before_split: whether the output is relu(bn(x)) + f(relu(bn(x))) where the shape stays.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        branch: nn.Module,
        shortcut: str,
        before_split: bool = False,
    ) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(in_channels)
        self.branch = branch
        self.shortcut: nn.Module | None = nn.Identity() if before_split else None
        if (in_channels, stride) != (out_channels, 1):
            if shortcut == "A":
                self.shortcut = ZeroPadShortcut(in_channels, out_channels, stride)
            else:
                self.shortcut = nn.Conv2d(
                    in_channels, out_channels, kernel_size=1, stride=stride, bias=False
                )

    def forward(self, x: Tensor) -> Tensor:
        """The unit's output, before any activation."""
        active = F.relu(self.bn(x))
        kept = x if self.shortcut is None else self.shortcut(active)
        return kept + self.branch(active)


def basic_branch(in_channels: int, width: int, stride: int, dropout: float = 0.0) -> nn.Sequential:
    """conv3x3-BN-ReLU-dropout-conv3x3: (N, in_channels, H, W) -> (N, width, H/stride, W/stride)."""
    return nn.Sequential(
        conv3x3(in_channels, width, stride),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Dropout(dropout),
        conv3x3(width, width),
    )


def bottleneck_branch(in_channels: int, width: int, stride: int, stride_in: str) -> nn.Sequential:
    """conv1x1-conv3x3-conv1x1 with BN-ReLU between: in_channels -> 4·width channels.

    Args:
        in_channels: channels of the input.
        width: channels of the first two convolutions.
        stride: of the whole.
        stride_in: the convolution that has it: "3x3", or "first", the first 1x1.
    """
    first, second = (stride, 1) if stride_in == "first" else (1, stride)
    return nn.Sequential(
        nn.Conv2d(in_channels, width, kernel_size=1, stride=first, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        conv3x3(width, width, second),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, 4 * width, kernel_size=1, bias=False),
    )


class PreActivationNet(nn.Module):
    """Stages of pre-activation units: images (N, C, H, W) -> logits (N, num_classes).

    A 3x3 convolution to 16 channels; the stages, each but the first with half the height and width of
    the one before; BN-ReLU; global average; linear.

    Args:
        num_classes: width of the classifier.
        stages: the units of each stage, in order.
        out_channels: channels after the last unit.
        init: see `initialise`.
        in_channels: C of the images.
    """

    def __init__(
        self,
        num_classes: int,
        stages: list[list[PreActivationUnit]],
        out_channels: int,
        init: str,
        in_channels: int,
    ) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, 16)
        self.stages = nn.Sequential(*(nn.Sequential(*units) for units in stages))
        self.bn = nn.BatchNorm2d(out_channels)
        self.fc = nn.Linear(out_channels, num_classes)
        initialise(self, init)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images."""
        maps = F.relu(self.bn(self.stages(self.conv1(images))))
        return self.fc(maps.mean(dim=(2, 3)))


class PreActResNet(PreActivationNet):
    """Pre-activation ResNet with stages of 16, 32 and 64 channels, with bottlenecks four times as many.

    Args:
        num_classes: width of the classifier, 1 or more.
        depth: number of convolutions and linear layers, without shortcuts: 6n + 2 for "basic" blocks
            (110), 9n + 2 for "bottleneck" blocks (164, 1001).
        block: "basic" (two 3x3) or "bottleneck" (1x1, 3x3, 1x1).
        shortcut: where the shape changes, "A" subsamples and adds zero channels (no parameters),
            "B" is a 1x1 convolution.
        stride: the convolution of a bottleneck that has the stride: "3x3"; or "first", the 1x1 before
            it, as in the authors' code (resnet-pre-act.lua), which saves a few multiply-adds.
            Of a basic block it is always the first 3x3.
        first_activation: in the first unit: "in_branch", as in all others; or "before_split", so that
            the shortcut receives the activated maps, too (appendix: "right after conv1 and before
            splitting into two paths"). The first bottleneck changes the shape: there both are the same.
        init: see `initialise`.
        in_channels: C of the images: 3 colours, or 1 grey level.

    Raises:
        OptionError: an argument breaks a rule above.
    """

    def __init__(
        self,
        num_classes: int,
        depth: int,
        block: str = "bottleneck",
        shortcut: str = "B",
        stride: str = "3x3",
        first_activation: str = "in_branch",
        init: str = "fan_out",
        in_channels: int = 3,
    ) -> None:
        whole_number("num_classes", num_classes, example=10)
        whole_number("in_channels", in_channels, example=3)
        choice("block", block, ("basic", "bottleneck"))
        choice("shortcut", shortcut, ("A", "B"))
        choice("stride", stride, ("3x3", "first"))
        choice("first_activation", first_activation, ("in_branch", "before_split"))
        step, expansion = (6, 1) if block == "basic" else (9, 4)
        bottleneck = functools.partial(bottleneck_branch, stride_in=stride)
        make_branch = basic_branch if block == "basic" else bottleneck
        units = repeats(depth, step, extra=2, family=f"a pre-activation ResNet of {block} blocks")
        stages: list[list[PreActivationUnit]] = []
        channels = 16
        for width in (16, 32, 64):
            stage: list[PreActivationUnit] = []
            for index in range(units):
                factor = 2 if stages and index == 0 else 1
                branch = make_branch(channels, width, factor)
                before_split = first_activation == "before_split" and not stages and index == 0
                out_channels = expansion * width
                stage.append(
                    PreActivationUnit(channels, out_channels, factor, branch, shortcut, before_split)
                )
                channels = out_channels
            stages.append(stage)
        super().__init__(num_classes, stages, channels, init, in_channels)
