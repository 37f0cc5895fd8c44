"""AlexNet (Krizhevsky, Sutskever and Hinton 2012, NeurIPS) as published."""

from __future__ import annotations

from torch import Tensor, nn

from densenet_cli.options import number, whole_number


class AlexNet(nn.Module):
    """AlexNet: images (N, C, 224, 224) -> logits (N, num_classes).

    As in section 3.5 and figure 2 of the paper: the second, fourth and fifth convolution have two
    groups, each of which was on a GPU of its own. Start values as in section 5. The paper does not
    say how 224 pixels give its 55x55 maps: images are padded by 2.

    Args:
        num_classes: width of the classifier, 1 or more.
        dropout: probability in [0, 1) of dropping an output of the first two linear layers.
        in_channels: C of the images: 3 colours, or 1 grey level.

    Raises:
        OptionError: an argument breaks a rule above.
    """

    def __init__(self, num_classes: int, dropout: float = 0.5, in_channels: int = 3) -> None:
        super().__init__()
        whole_number("num_classes", num_classes, example=10)
        number("dropout", dropout, example=0.5, at_least=0, below=1)
        whole_number("in_channels", in_channels, example=3)
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 96, kernel_size=11, stride=4, padding=2),
            nn.ReLU(),
            local_response_normalisation(),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.Conv2d(96, 256, kernel_size=5, padding=2, groups=2),
            nn.ReLU(),
            local_response_normalisation(),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.Conv2d(256, 384, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 384, kernel_size=3, padding=1, groups=2),
            nn.ReLU(),
            nn.Conv2d(384, 256, kernel_size=3, padding=1, groups=2),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=3, stride=2),
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
        self._initialise()

    def _initialise(self) -> None:
        """Weights: normal, 0.01. Biases: 1 where they let ReLUs begin with positive inputs, else 0."""
        layers = [m for m in self.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
        for place, layer in enumerate(layers, start=1):
            nn.init.normal_(layer.weight, std=0.01)
            assert layer.bias is not None
            nn.init.constant_(layer.bias, 1 if place in (2, 4, 5, 6, 7) else 0)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images."""
        return self.classifier(self.features(images).flatten(1))


def local_response_normalisation() -> nn.LocalResponseNorm:
    """That of section 3.3: α = 1e-4 of the sum over 5 maps, where PyTorch averages."""
    return nn.LocalResponseNorm(size=5, alpha=5 * 1e-4, beta=0.75, k=2)
