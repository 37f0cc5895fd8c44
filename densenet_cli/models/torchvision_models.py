"""Every classification network of torchvision, by name."""

from __future__ import annotations

from typing import Any

from torch import nn
from torchvision import models

from densenet_cli.models.first_convolution import reading
from densenet_cli.options import UserError, choice, whole_number

HAS_AUXILIARY_HEADS = ("googlenet", "inception_v3")


def torchvision_model(name: str, num_classes: int, in_channels: int = 3, **options: Any) -> nn.Module:
    """A network of torchvision with new weights: images (N, C, H, W) -> logits (N, num_classes).

    Args:
        name: one of torchvision.models.list_models(module=torchvision.models), such as "vgg16_bn".
        num_classes: width of the classifier, 1 or more.
        in_channels: C: 3, or 1 for grey levels, of which the network first makes what it would make of
            three equal colours.
        options: arguments of torchvision's function for this network, such as drop_rate. googlenet and
            inception_v3 are built without their auxiliary heads, so that they too return one tensor.

    Raises:
        OptionError: torchvision has no such network, num_classes is below 1, or in_channels is neither
            3 nor 1.
        UserError: the network does not take these options.
    """
    choice("name", name, models.list_models(module=models))
    whole_number("num_classes", num_classes, example=10)
    if name in HAS_AUXILIARY_HEADS:
        options = {"init_weights": True, **options, "aux_logits": False}
    try:
        network = models.get_model(name, weights=None, num_classes=num_classes, **options)
    except TypeError as error:  # only an unknown option can cause one
        raise UserError(f"torchvision's {name} does not take {sorted(options)}: {error}") from error
    return reading(network, in_channels)
