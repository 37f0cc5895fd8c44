"""Pre-activation ResNet for CIFAR (He et al. 2016, "Identity Mappings", arXiv:1603.05027)."""

from __future__ import annotations

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
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, branch: nn.Module, shortcut: str
    ) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(in_channels)
        self.branch = branch
        self.shortcut: nn.Module | None = None
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


def bottleneck_branch(in_channels: int, width: int, stride: int) -> nn.Sequential:
    """conv1x1-conv3x3-conv1x1 with BN-ReLU between: in_channels -> 4·width channels.

    The 3x3 convolution has the stride. In He's code the first 1x1 has it, which saves a few
    multiply-adds and does not change the parameters.
    """
    return nn.Sequential(
        nn.Conv2d(in_channels, width, kernel_size=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        conv3x3(width, width, stride),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, 4 * width, kernel_size=1, bias=False),
    )


class PreActivationNet(nn.Module):
    """Stages of pre-activation units: images (N, 3, H, W) -> logits (N, num_classes).

    A 3x3 convolution to 16 channels; the stages, each but the first with half the height and width of
    the one before; BN-ReLU; global average; linear.

    Args:
        num_classes: width of the classifier.
        stages: the units of each stage, in order.
        out_channels: channels after the last unit.
    """

    def __init__(
        self, num_classes: int, stages: list[list[PreActivationUnit]], out_channels: int
    ) -> None:
        super().__init__()
        self.conv1 = conv3x3(3, 16)
        self.stages = nn.Sequential(*(nn.Sequential(*units) for units in stages))
        self.bn = nn.BatchNorm2d(out_channels)
        self.fc = nn.Linear(out_channels, num_classes)
        initialise(self)

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

    Raises:
        OptionError: an argument breaks a rule above.
    """

    def __init__(
        self, num_classes: int, depth: int, block: str = "bottleneck", shortcut: str = "B"
    ) -> None:
        whole_number("num_classes", num_classes, example=10)
        choice("block", block, ("basic", "bottleneck"))
        choice("shortcut", shortcut, ("A", "B"))
        step, expansion = (6, 1) if block == "basic" else (9, 4)
        make_branch = basic_branch if block == "basic" else bottleneck_branch
        units = repeats(depth, step, extra=2, family=f"a pre-activation ResNet of {block} blocks")
        stages: list[list[PreActivationUnit]] = []
        channels = 16
        for width in (16, 32, 64):
            stage: list[PreActivationUnit] = []
            for index in range(units):
                stride = 2 if stages and index == 0 else 1
                branch = make_branch(channels, width, stride)
                out_channels = expansion * width
                stage.append(PreActivationUnit(channels, out_channels, stride, branch, shortcut))
                channels = out_channels
            stages.append(stage)
        super().__init__(num_classes, stages, channels)
