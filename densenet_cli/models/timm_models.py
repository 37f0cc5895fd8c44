"""Every network of timm (PyTorch Image Models), by name; timm must be installed."""

from __future__ import annotations

from typing import Any

from torch import nn

from densenet_cli.options import OptionError, UserError, choice, not_installed, whole_number


def timm_model(name: str, num_classes: int, in_channels: int = 3, **options: Any) -> nn.Module:
    """A network of timm with new weights: images (N, C, H, W) -> logits (N, num_classes).

    Args:
        name: one of timm.list_models(), such as "rdnet_tiny".
        num_classes: width of the classifier, 1 or more.
        in_channels: C: 3, or 1 for grey levels.
        options: arguments of timm's function for this network. Note that in timm's DenseNet drop_rate
            acts before the classifier, proj_drop_rate in the layers.

    Raises:
        OptionError: timm has no such network, num_classes is below 1, or checkpoint_path is given.
        UserError: timm is not installed, or the network does not take these options.
    """
    try:
        import timm  # optional, and slow to import
    except ImportError as error:
        raise not_installed("this model", "timm", extra="timm") from error
    choice("name", name, timm.list_models())
    whole_number("num_classes", num_classes, example=10)
    if "checkpoint_path" in options:  # older releases of timm run code that the file contains
        rule = "cannot be used; type pretrained.weights=<a file>"
        raise OptionError("checkpoint_path", options["checkpoint_path"], rule)
    if in_channels != 3:
        options["in_chans"] = in_channels
    try:
        return timm.create_model(name, pretrained=False, num_classes=num_classes, **options)
    except TypeError as error:  # only an unknown option can cause one
        raise UserError(f"timm's {name} does not take {sorted(options)}: {error}") from error
