"""Start values of the weights of DenseNet and CIFAR ResNets (He et al. 2015, arXiv:1502.01852)."""

from __future__ import annotations

import math

from torch import nn


def initialise(network: nn.Module) -> None:
    """Set every weight of `network` to its start value, as the papers' Torch7 code does.

    Convolutions: normal, variance 2 / (kernel area · output channels). Batch norm: weight 1, bias
    0. Linear: bias 0, weight as PyTorch initialises it (uniform, ±1/√in). torchvision's DenseNet
    divides by the number of *input* channels instead.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            kernel_height, kernel_width = module.kernel_size
            fan_out = kernel_height * kernel_width * module.out_channels
            nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
