"""ZFNet (Zeiler and Fergus 2013, arXiv:1311.2901, section 3.1 and figure 3)."""

from __future__ import annotations

from torch import Tensor, nn

from densenet_cli.models.history.alexnet import local_response_normalisation
from densenet_cli.options import number, whole_number


class ZFNet(nn.Module):
    """AlexNet with a finer first layer: images (N, C, 224, 224) -> logits (N, num_classes).

    The paper gives no constants for its contrast normalisation; AlexNet's are used.

    Args:
        num_classes: width of the classifier, 1 or more.
        dropout: probability in [0, 1) of dropping an output of layers 6 and 7.
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
            nn.Conv2d(in_channels, 96, kernel_size=7, stride=2, padding=1),
            nn.ReLU(),
            _pooling(),
            local_response_normalisation(),
            nn.Conv2d(96, 256, kernel_size=5, stride=2),
            nn.ReLU(),
            _pooling(),
            local_response_normalisation(),
            nn.Conv2d(256, 384, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 384, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, kernel_size=3, padding=1),
            nn.ReLU(),
            _pooling(),
        )
        self.classifier = nn.Sequential(
            nn.Linear(256 * 6 * 6, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, num_classes),
        )
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.01 if parameter.ndim > 1 else 0)  # biases: zero

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images."""
        return self.classifier(self.features(images).flatten(1))


def _pooling() -> nn.MaxPool2d:
    """3x3 with stride 2, also over the rest at the border: 110 -> 55, 26 -> 13, 13 -> 6."""
    return nn.MaxPool2d(kernel_size=3, stride=2, ceil_mode=True)
