"""Wide residual networks for CIFAR and SVHN (Zagoruyko and Komodakis 2016, arXiv:1605.07146)."""

from __future__ import annotations

from densenet_cli.models.depth import repeats
from densenet_cli.models.preact_resnet import PreActivationNet, PreActivationUnit, basic_branch
from densenet_cli.options import number, whole_number


class WideResNet(PreActivationNet):
    """WRN-depth-widen_factor: few pre-activation units of two 3x3 convolutions, with many channels.

    Stages of 16, 32 and 64 channels times widen_factor. The shortcut is a 1x1 convolution where
    the shape changes.

    Args:
        num_classes: width of the classifier, 1 or more.
        depth: 6n + 4, counting the convolutions and the three 1x1 shortcuts: 16, 22, 28, 40.
        widen_factor: the paper's k, 1 or more.
        dropout: probability in [0, 1) of dropping an element, before the second 3x3 of each unit
            (sec. 2.4; the authors use 0.3 on CIFAR and 0.4 on SVHN).
        init: see `initialise`. The authors' code has "fan_in", since September 2016.
        in_channels: C of the images: 3 colours, or 1 grey level.

    Raises:
        OptionError: an argument breaks a rule above.
    """

    def __init__(
        self,
        num_classes: int,
        depth: int,
        widen_factor: int,
        dropout: float = 0.0,
        init: str = "fan_out",
        in_channels: int = 3,
    ) -> None:
        whole_number("num_classes", num_classes, example=10)
        whole_number("in_channels", in_channels, example=3)
        whole_number("widen_factor", widen_factor, example=4)
        number("dropout", dropout, example=0.3, at_least=0, below=1)
        units = repeats(depth, step=6, extra=4, family="a wide ResNet")
        stages: list[list[PreActivationUnit]] = []
        channels = 16
        for width in (16 * widen_factor, 32 * widen_factor, 64 * widen_factor):
            stage: list[PreActivationUnit] = []
            for index in range(units):
                stride = 2 if stages and index == 0 else 1
                branch = basic_branch(channels, width, stride, dropout)
                stage.append(PreActivationUnit(channels, width, stride, branch, shortcut="B"))
                channels = width
            stages.append(stage)
        super().__init__(num_classes, stages, channels, init, in_channels)
