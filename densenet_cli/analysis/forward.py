"""A network's answers to batches of images, without any change to the network."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Batches = Iterable[tuple[Tensor, Tensor]]
"""Images (n, 3, H, W) and labels (n,): a list or a loader, which can be gone through repeatedly."""


@contextlib.contextmanager
def mode(network: nn.Module, training: bool) -> Iterator[None]:
    """All modules in training or evaluation mode, and each as it was afterwards."""
    before = {module: module.training for module in network.modules()}
    network.train(training)
    try:
        yield
    finally:
        for module, was in before.items():
            module.training = was


@contextlib.contextmanager
def same_buffers(network: nn.Module) -> Iterator[None]:
    """Running statistics are afterwards what they were."""
    before = [(buffer, buffer.clone()) for buffer in network.buffers()]
    try:
        yield
    finally:
        for buffer, was in before:
            buffer.copy_(was)


def device_of(network: nn.Module) -> torch.device:
    """Where the network's parameters lie."""
    return next(network.parameters()).device


def in_double(tensor: Tensor) -> Tensor:
    """The tensor in float64; on the CPU if it lies on an Apple GPU, which has no such numbers."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()


def answers(network: nn.Module, batches: Batches) -> tuple[Tensor, Tensor]:
    """Logits (N, classes) float32 and labels (N,) of all images, on the CPU; in evaluation mode.

    Raises:
        ValueError: there are no images, as in an iterator that was used up.
    """
    device, logits, labels = device_of(network), [], []
    with mode(network, training=False), torch.no_grad():
        for images, truth in batches:
            logits.append(network(images.to(device)).float().cpu())
            labels.append(truth.cpu())
    if not labels:
        raise ValueError("there are no images: batches must be a list or a loader with some")
    return torch.cat(logits), torch.cat(labels)


def error_and_loss(network: nn.Module, batches: Batches) -> tuple[float, float]:
    """Percentage of images taken for another class, and the mean cross-entropy in nats."""
    logits, labels = answers(network, batches)
    wrong = logits.argmax(1) != labels
    return 100 * float(wrong.double().mean()), float(F.cross_entropy(logits.double(), labels))
