"""Start values of the weights of DenseNet and CIFAR ResNets (He et al. 2015, arXiv:1502.01852)."""

from __future__ import annotations

import math

from torch import nn

from densenet_cli.options import choice

FANS = ("fan_out", "fan_in")


def initialise(network: nn.Module, init: str = "fan_out") -> None:
    """Set every weight of `network` to its start value.

    Convolutions: normal, variance 2 / (kernel area · channels), and biases 0. Batch norm: weight 1,
    bias 0. Linear: bias 0, weight as PyTorch initialises it (uniform, ±1/√in).

    Args:
        network: changed in place.
        init: which channels: "fan_out", those of the output, as the Torch7 code of DenseNet,
            fb.resnet.torch and resnet-1k-layers; "fan_in", those of the input, as the code of wide
            residual networks (models/utils.lua, MSRinit) and of stochastic depth (ResidualDrop.lua).
            torchvision's DenseNet has "fan_in", too.

    Raises:
        OptionError: for another init.
    """
    choice("init", init, FANS)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            kernel_height, kernel_width = module.kernel_size
            channels = module.out_channels if init == "fan_out" else module.in_channels
            fan = kernel_height * kernel_width * channels
            nn.init.normal_(module.weight, std=math.sqrt(2 / fan))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
