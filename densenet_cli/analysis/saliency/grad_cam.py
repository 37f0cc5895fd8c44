"""Grad-CAM: where in an image a network finds a class (Selvaraju et al. 2017, arXiv:1610.02391).

Looked at are the last maps of SIDE x SIDE pixels or more that any operation of a forward pass gives:
what the global average pooling reads, behind the last ReLU, whether these are modules or, as in our
networks, functions; what the first linear layer reads in AlexNet and VGG for 224x224, behind the last
pooling, where the paper takes the maps before it. Of 32x32 pixels VGG ends with maps of 2x2, which tell
no place. Captum and its like look at the output of a module, which in our networks is what the last
ReLU still has to change.
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

SIDE = 4  # pixels of the maps that are looked at unless a layer is named


def grad_cam(network: nn.Module, images: Tensor, labels: Tensor, layer: str | None = None) -> Tensor:
    """The maps weighted by how their means raise the logit of a class, where that is above zero.

    Equations 1 and 2 of the paper, brought to the size of the images (bilinear), in evaluation mode. If
    nothing but global average pooling and a linear layer follow, the weights are that layer's over the
    number of positions, so that this is CAM up to a factor (section 3.1).

    Args:
        network: a convolutional network, images -> logits.
        images: (N, 3, H, W), normalised.
        labels: (N,) the class to look for in each image.
        layer: the module whose maps are looked at, as the state dict names it; None: the last maps.

    Returns:
        (N, H, W) float32 on the CPU, at least 0, in units of a logit.

    Raises:
        OptionError: the network has no such module, or it gives no maps.
        UserError: the network gives no maps.
    """
    device = device_of(network)
    watched = images.detach().to(device).requires_grad_()  # frozen weights ask for no gradients
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
        for module in network.modules():  # no fused kernel passes by a module that has a hook
            undo.enter_context(module.register_forward_hook(_change_nothing))
        last = undo.enter_context(_LastMaps(images))
        logits = network(images)
    # A square image has square maps; queries and keys of a transformer have four dimensions too.
    if last.maps is None or (_is_square(images) and not _is_square(last.maps)):
        rule = f"gives no feature maps of {SIDE}x{SIDE} pixels or more; name a layer by --layer"
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
        raise OptionError("--layer", layer, "gives no feature maps (N, C, H, W) of several pixels")
    return logits, outputs[-1]


class _LastMaps(TorchFunctionMode):
    """Keeps the last maps that an operation on the images gave; overwritten ones as they then are."""

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
