"""LeNet-5 (LeCun, Bottou, Bengio and Haffner 1998, Proceedings of the IEEE 86, section II.B)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from densenet_cli.options import choice, whole_number

# Table I: the maps of S2 that each of the 16 maps of C3 reads.
C3_READS = [
    [0, 1, 2],
    [1, 2, 3],
    [2, 3, 4],
    [3, 4, 5],
    [0, 4, 5],
    [0, 1, 5],
    [0, 1, 2, 3],
    [1, 2, 3, 4],
    [2, 3, 4, 5],
    [0, 3, 4, 5],
    [0, 1, 4, 5],
    [0, 1, 2, 5],
    [0, 1, 3, 4],
    [1, 2, 4, 5],
    [0, 2, 3, 5],
    [0, 1, 2, 3, 4, 5],
]


def squashed(x: Tensor) -> Tensor:
    """The scaled hyperbolic tangent of appendix A, for which f(1) = 1 and f(-1) = -1."""
    return 1.7159 * torch.tanh(2 / 3 * x)


class Subsampling(nn.Module):
    """S2 and S4: the sum of each 2x2, times a coefficient of the map, plus a bias; squashed.

    (N, channels, H, W) -> (N, channels, H/2, W/2).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.coefficient = nn.Parameter(torch.empty(channels, 1, 1))
        self.bias = nn.Parameter(torch.empty(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Maps of half the size."""
        return squashed(self.coefficient * 4 * F.avg_pool2d(x, 2) + self.bias)


class PartialConvolution(nn.Module):
    """C3: 5x5 convolutions that read some maps each: (N, 6, H, W) -> (N, 16, H-4, W-4)."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Conv2d(len(read), 1, kernel_size=5) for read in C3_READS)

    def forward(self, x: Tensor) -> Tensor:
        """The 16 maps, before they are squashed."""
        maps = x.split(1, dim=1)
        read = [torch.cat([maps[index] for index in indices], dim=1) for indices in C3_READS]
        return torch.cat([conv(part) for conv, part in zip(self.maps, read, strict=True)], dim=1)


class LeNet5(nn.Module):
    """LeNet-5: images (N, C, 32, 32) -> logits (N, num_classes).

    As in the paper but for two things: C1 also reads three colours, and the output is linear instead of
    distances from fixed codes of the digits (RBF units), so that cross entropy can train it.

    Args:
        num_classes: width of the classifier, 1 or more.
        pooling: of S2 and S4: "subsampling", as in the paper, or "max", as most of today's versions.
        connections: of C3: "table_1" of the paper, or "all": each map reads all maps of S2.
        in_channels: C of the images: 3 colours, or 1 grey level, as in the paper.

    Raises:
        OptionError: an argument breaks a rule above.
    """

    def __init__(
        self,
        num_classes: int,
        pooling: str = "subsampling",
        connections: str = "table_1",
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        whole_number("num_classes", num_classes, example=10)
        whole_number("in_channels", in_channels, example=3)
        choice("pooling", pooling, ("subsampling", "max"))
        choice("connections", connections, ("table_1", "all"))
        subsamples, is_partial = pooling == "subsampling", connections == "table_1"
        self.c1 = nn.Conv2d(in_channels, 6, kernel_size=5)
        self.s2 = Subsampling(6) if subsamples else nn.MaxPool2d(2)
        self.c3 = PartialConvolution() if is_partial else nn.Conv2d(6, 16, kernel_size=5)
        self.s4 = Subsampling(16) if subsamples else nn.MaxPool2d(2)
        self.c5 = nn.Conv2d(16, 120, kernel_size=5)
        self.f6 = nn.Linear(120, 84)
        self.output = nn.Linear(84, num_classes)
        self._initialise()

    def _initialise(self) -> None:
        """Uniform, ±2.4 / inputs of a unit (appendix A)."""
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                inputs = module.weight[0].numel()
            elif isinstance(module, Subsampling):
                inputs = 4
            else:
                continue
            for parameter in module.parameters():
                nn.init.uniform_(parameter, -2.4 / inputs, 2.4 / inputs)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images."""
        maps = self.s2(squashed(self.c1(images)))
        maps = self.s4(squashed(self.c3(maps)))
        features = squashed(self.c5(maps)).flatten(1)
        return self.output(squashed(self.f6(features)))
