"""Network in Network (Lin, Chen and Yan 2013, arXiv:1312.4400), as in the authors' code for CIFAR-10.

That is NIN/cifar-10_def of mavenlin/cuda-convnet; the paper gives no widths.
"""

from __future__ import annotations

from torch import Tensor, nn

from densenet_cli.options import number, whole_number


class NetworkInNetwork(nn.Module):
    """Network in Network: images (N, C, H, W) -> logits (N, num_classes).

    Three convolutions, each with a small perceptron for every pixel after it, which are two 1x1
    convolutions; the last gives a map for each class, and its average over the image is the logit.

    Args:
        num_classes: number of logits, 1 or more.
        dropout: probability in [0, 1) of dropping an element after the first and the second pooling.
        in_channels: C of the images: 3 colours, or 1 grey level.

    Raises:
        OptionError: an argument breaks a rule above.
    """

    def __init__(self, num_classes: int, dropout: float = 0.5, in_channels: int = 3) -> None:
        super().__init__()
        whole_number("num_classes", num_classes, example=10)
        whole_number("in_channels", in_channels, example=3)
        number("dropout", dropout, example=0.5, at_least=0, below=1)
        self.features = nn.Sequential(
            _mlpconv(in_channels, (192, 160, 96), kernel_size=5),
            _pooling(),
            nn.Dropout(dropout),
            _mlpconv(96, (192, 192, 192), kernel_size=5),
            _pooling(),
            nn.Dropout(dropout),
            _mlpconv(192, (192, 192, num_classes), kernel_size=3),
        )
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.05 if parameter.ndim > 1 else 0)  # biases: zero

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images."""
        return self.features(images).mean(dim=(2, 3))


def _mlpconv(in_channels: int, widths: tuple[int, int, int], kernel_size: int) -> nn.Sequential:
    """A convolution that keeps the size, then two 1x1, a ReLU after each."""
    first, second, third = widths
    return nn.Sequential(
        nn.Conv2d(in_channels, first, kernel_size, padding=kernel_size // 2),
        nn.ReLU(),
        nn.Conv2d(first, second, kernel_size=1),
        nn.ReLU(),
        nn.Conv2d(second, third, kernel_size=1),
        nn.ReLU(),
    )


def _pooling() -> nn.MaxPool2d:
    return nn.MaxPool2d(kernel_size=3, stride=2, ceil_mode=True)  # 32 -> 16 -> 8
