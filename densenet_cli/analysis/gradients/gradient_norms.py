"""The norms of the gradients that reach each layer of a network."""

from __future__ import annotations

import statistics
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from densenet_cli.analysis.forward import Batches, device_of, mode, no_images, same_buffers
from densenet_cli.training.auxiliary import LossOfBatch, losses


@dataclass(frozen=True)
class LayerGradient:
    """Euclidean norms of the gradients at one convolution or linear layer, each a mean over batches.

    Attributes:
        name: as in the state dict.
        weight: norm of the gradient of a batch's mean loss with respect to the layer's weights.
        relative: `weight` divided by the norm of the weights.
        output: norm of the gradient of a batch's summed loss with respect to the layer's output for
            one image; the mean over images.
    """

    name: str
    weight: float
    relative: float
    output: float


def gradient_norms(
    network: nn.Module, batches: Batches, loss: LossOfBatch = F.cross_entropy
) -> list[LayerGradient]:
    """Gradients of the training loss at the current weights, in the order in which the layers compute.

    Batch norm uses batch statistics and dropout is active, as in training. Layers that stochastic depth
    leaves out have gradients of zero. Weights, their `grad` and running statistics are not changed.

    Args:
        network: images -> logits.
        batches: one or a few, each of several images, since batch norm needs them.
        loss: logits and labels -> the mean loss.

    Raises:
        ValueError: there are no images.
    """
    layers = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear)) and module.weight.requires_grad
    }
    with mode(network, training=True), same_buffers(network):
        measured = [_of_batch(network, layers, images, labels, loss) for images, labels in batches]
    if not measured:
        raise no_images()
    called = max(measured, key=len)  # in order; of these layers, stochastic depth leaves out others
    if any(of_batch.keys() != called.keys() for of_batch in measured):
        called = {name: (0.0, 0.0) for name in layers if any(name in one for one in measured)}
    return [
        _mean(name, layers[name].weight, [of_batch.get(name, (0.0, 0.0)) for of_batch in measured])
        for name in called
    ]


def _of_batch(
    network: nn.Module,
    layers: dict[str, nn.Conv2d | nn.Linear],
    images: Tensor,
    labels: Tensor,
    loss: LossOfBatch,
) -> dict[str, tuple[float, float]]:
    """The norms for weights and for outputs, by name, in the order of computation."""
    device, outputs = device_of(network), dict[str, float]()
    with ExitStack() as hooks:
        for name, layer in layers.items():
            hooks.enter_context(layer.register_forward_hook(partial(_watch, outputs, name)))
        _, minimised = losses(network(images.to(device)).float(), labels.to(device), loss)
    order = list(outputs)
    gradients = torch.autograd.grad(minimised, [layers[name].weight for name in order])
    weights = [float(gradient.norm()) for gradient in gradients]
    return {name: (weight, outputs[name]) for name, weight in zip(order, weights, strict=True)}


def _watch(outputs: dict[str, float], name: str, layer: nn.Module, args: Any, output: Tensor) -> None:
    """Record the gradient of an output in the backward pass, also if a ReLU overwrites the output."""
    outputs[name] = 0.0
    output.register_hook(partial(_note, outputs, name))


def _note(outputs: dict[str, float], name: str, gradient: Tensor) -> None:
    # The loss is a mean over N images: the gradient of their sum is N times as large. The mean of N
    # such norms is the sum of the norms.
    outputs[name] += float(gradient.flatten(1).norm(dim=1).sum())


def _mean(name: str, weight: Tensor, norms: list[tuple[float, float]]) -> LayerGradient:
    of_weight, of_output = (statistics.fmean(column) for column in zip(*norms, strict=True))
    return LayerGradient(name, of_weight, of_weight / float(weight.detach().norm()), of_output)
