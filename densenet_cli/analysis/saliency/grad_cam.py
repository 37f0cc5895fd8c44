"""Grad-CAM: the parts of an image that speak for a class (Selvaraju et al. 2017, arXiv:1610.02391).

By default it uses the last feature maps of SIDE x SIDE pixels or more that any operation of a forward
pass outputs. These are the input of the global average pooling, after the last ReLU, whether the two
are modules or, as in our networks, functions. In AlexNet and VGG for 224x224 they are the input of the
first linear layer, after the last pooling, where the paper uses the maps before it. VGG for 32x32
pixels ends with maps of 2x2, too coarse to locate anything. Captum and similar libraries use the output
of a module, which in our networks is the input of the last ReLU.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from densenet_cli.analysis.forward import device_of, mode
from densenet_cli.options import OptionError, UserError, choice

SIDE = 4  # pixels; smaller maps are used only if a layer is named


def grad_cam(network: nn.Module, images: Tensor, labels: Tensor, layer: str | None = None) -> Tensor:
    """The positive part of the sum of all maps, each weighted by its gradient for the logit of a class.

    Equations 1 and 2 of the paper, resized to the images (bilinear), in evaluation mode. If only global
    average pooling and a linear layer follow the maps, the result is CAM up to a factor (section 3.1).

    Args:
        network: a convolutional network, images -> logits.
        images: (N, 3, H, W), normalised.
        labels: (N,) the class to explain in each image.
        layer: the module whose output is used, as the state dict names it; None: the last maps.

    Returns:
        (N, H, W) float32 on the CPU, at least 0, in units of a logit.

    Raises:
        OptionError: the network has no such module, or its output is not feature maps.
        UserError: the network has no feature maps that are large enough.
    """
    device = device_of(network)
    watched = images.detach().to(device).requires_grad_()  # weights may be frozen
    with mode(network, training=False), torch.enable_grad():
        logits, maps = _logits_and_maps(network, watched, layer)
        chosen = logits.gather(1, labels.to(device)[:, None]).sum()
        (gradients,) = torch.autograd.grad(chosen, maps)
    weights = gradients.mean(dim=(2, 3), keepdim=True)
    found = F.relu((weights * maps.detach()).sum(1, keepdim=True)).float()
    size = images.shape[2:]
    return F.interpolate(found, size, mode="bilinear", align_corners=False)[:, 0].cpu()


def _logits_and_maps(network: nn.Module, images: Tensor, layer: str | None) -> tuple[Tensor, Tensor]:
    if layer is not None:
        return _at_layer(network, images, layer)
    with ExitStack() as undo:
        for module in network.modules():  # hooks turn fused kernels off
            undo.enter_context(module.register_forward_hook(_change_nothing))
        last = undo.enter_context(_LastMaps(images))
        logits = network(images)
    # Queries and keys of a transformer have four dimensions, too; they are not square.
    if last.maps is None or (_is_square(images) and not _is_square(last.maps)):
        rule = f"has no feature maps of {SIDE}x{SIDE} pixels or more; name a layer by --layer"
        raise UserError(f"{type(network).__name__} {rule}")
    return logits, last.maps


def _at_layer(network: nn.Module, images: Tensor, layer: str) -> tuple[Tensor, Tensor]:
    names = [name for name, _ in network.named_modules() if name]
    module = network.get_submodule(choice("--layer", layer, names))
    outputs: list[Any] = []

    def keep(module: nn.Module, args: Any, output: Any) -> Any:
        outputs.append(output)
        return output.clone() if isinstance(output, Tensor) else None  # a ReLU may overwrite it

    with module.register_forward_hook(keep):
        logits = network(images)
    if not outputs or not _are_maps(outputs[-1], images, 2):
        raise OptionError(
            "--layer", layer, "does not output feature maps (N, C, H, W) of several pixels"
        )
    return logits, outputs[-1]


class _LastMaps(TorchFunctionMode):
    """Keeps the last feature maps that an operation output, with later in-place changes."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.images = images
        self.maps: Tensor | None = None

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = function(*args, **(kwargs or {}))
        if _are_maps(output, self.images, SIDE):
            self.maps = output
        return output


def _are_maps(output: Any, images: Tensor, side: int) -> bool:
    if not isinstance(output, Tensor) or output.dim() != 4 or not output.requires_grad:
        return False
    return len(output) == len(images) and min(output.shape[2:]) >= side


def _is_square(maps: Tensor) -> bool:
    return maps.shape[2] == maps.shape[3]


def _change_nothing(module: nn.Module, args: Any, output: Any) -> None:
    pass
