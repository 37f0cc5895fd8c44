"""The convolution that reads the images, and what it becomes where they are grey levels."""

from __future__ import annotations

from torch import Tensor, nn

from densenet_cli.options import OptionError

COLOURS = 3


def first_convolution(network: nn.Module) -> tuple[str, nn.Conv2d] | None:
    """The name of a network's first convolution, and the convolution; None if it has none."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            return name, module
    return None


def grey(weight: Tensor) -> Tensor:
    """The weight (out, 1, h, w) that makes of a grey level what `weight`, (out, 3, h, w), makes of it.

    A grey level has three equal colours: the weights of the colours are added, as timm does.
    """
    return weight.sum(dim=1, keepdim=True)


def reading(network: nn.Module, in_channels: int) -> nn.Module:
    """Make a network of three colours read images of so many channels, 3 or 1.

    It then makes of a grey image what it would make of three equal colours.

    Args:
        network: it is changed.
        in_channels: 3 or 1.

    Returns:
        The network.

    Raises:
        OptionError: in_channels is another number, or the network has no such convolution.
    """
    if in_channels == COLOURS:
        return network
    if in_channels != 1:
        raise OptionError("in_channels", in_channels, "must be 3 or 1", 3)
    _, conv = first_convolution(network) or ("", None)
    if conv is None or (conv.in_channels, conv.groups) != (COLOURS, 1):
        rule = "this network does not begin with a convolution of three colours"
        raise OptionError("in_channels", in_channels, rule, COLOURS)
    conv.in_channels, conv.weight = 1, nn.Parameter(grey(conv.weight.detach()))
    return network
