"""How large the gradients are that reach each layer of a network."""

from __future__ import annotations

import statistics
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from densenet_cli.analysis.forward import Batches, device_of, mode, same_buffers


@dataclass(frozen=True)
class LayerGradient:
    """The gradients of one convolution or linear layer, each a Euclidean norm, the mean over batches.

    Attributes:
        name: as in the state dict.
        weight: of the gradient of a batch's mean loss with respect to the layer's weights.
        relative: the same over the norm of the weights themselves.
        output: of the gradient of one image's share in the batch's summed loss with respect to what
            the layer gives for that image; the mean over images.
    """

    name: str
    weight: float
    relative: float
    output: float


def gradient_norms(network: nn.Module, batches: Batches) -> list[LayerGradient]:
    """Gradients of the cross-entropy at the present weights, in the order in which layers compute.

    As in training, batch norm normalises by the batch, and dropout drops. Neither weights, nor their
    `grad`, nor running statistics are changed.

    Args:
        network: images -> logits.
        batches: one or a few; batches of several images, for batch norm.

    Raises:
        ValueError: there are no images.
    """
    layers = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear)) and module.weight.requires_grad
    }
    with mode(network, training=True), same_buffers(network):
        measured = [_of_batch(network, layers, images, labels) for images, labels in batches]
    if not measured:
        raise ValueError("there are no images: batches must be a list or a loader with some")
    return [
        _mean(name, layers[name].weight, [of_batch[name] for of_batch in measured])
        for name in measured[0]
    ]


def _of_batch(
    network: nn.Module, layers: dict[str, nn.Conv2d | nn.Linear], images: Tensor, labels: Tensor
) -> dict[str, tuple[float, float]]:
    """By name, in the order of computation: the norms for weights and for outputs."""
    device, outputs = device_of(network), dict[str, float]()
    with ExitStack() as hooks:
        for name, layer in layers.items():
            hooks.enter_context(layer.register_forward_hook(partial(_watch, outputs, name)))
        loss = F.cross_entropy(network(images.to(device)).float(), labels.to(device))
    order = list(outputs)
    gradients = torch.autograd.grad(loss, [layers[name].weight for name in order])
    weights = [float(gradient.norm()) for gradient in gradients]
    return {name: (weight, outputs[name]) for name, weight in zip(order, weights, strict=True)}


def _watch(outputs: dict[str, float], name: str, layer: nn.Module, args: Any, output: Tensor) -> None:
    """Have the gradient of an output noted once it is there, also if a ReLU overwrites the output."""
    outputs[name] = 0.0
    output.register_hook(partial(_note, outputs, name))


def _note(outputs: dict[str, float], name: str, gradient: Tensor) -> None:
    # The mean over N images of the norms of N times the gradient of their mean loss.
    outputs[name] += float(gradient.flatten(1).norm(dim=1).sum())


def _mean(name: str, weight: Tensor, norms: list[tuple[float, float]]) -> LayerGradient:
    of_weight, of_output = (statistics.fmean(column) for column in zip(*norms, strict=True))
    return LayerGradient(name, of_weight, of_weight / float(weight.detach().norm()), of_output)
