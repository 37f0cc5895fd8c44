"""Forward passes that leave the network as it was: mode, running statistics, logits."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Batches = Iterable[tuple[Tensor, Tensor]]
"""Images (n, 3, H, W) and labels (n,): a list or a loader that can be iterated several times."""


@contextlib.contextmanager
def mode(network: nn.Module, training: bool) -> Iterator[None]:
    """Set all modules to training or evaluation mode; afterwards restore the mode of each."""
    before = {module: module.training for module in network.modules()}
    network.train(training)
    try:
        yield
    finally:
        for module, was in before.items():
            module.training = was


@contextlib.contextmanager
def same_buffers(network: nn.Module) -> Iterator[None]:
    """Restore the network's buffers, among them running statistics, afterwards."""
    before = [(buffer, buffer.clone()) for buffer in network.buffers()]
    try:
        yield
    finally:
        for buffer, was in before:
            buffer.copy_(was)


def device_of(network: nn.Module) -> torch.device:
    """The device of the network's parameters."""
    return next(network.parameters()).device


def in_double(tensor: Tensor) -> Tensor:
    """The tensor in float64; moved to the CPU from an Apple GPU, which has no float64."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()


def logits_and_labels(network: nn.Module, batches: Batches) -> tuple[Tensor, Tensor]:
    """Logits (N, classes) float32 and labels (N,) of all images, on the CPU, in evaluation mode.

    Raises:
        ValueError: there are no images, for example because an iterator was used up.
    """
    device, logits, labels = device_of(network), [], []
    with mode(network, training=False), torch.no_grad():
        for images, truth in batches:
            logits.append(network(images.to(device)).float().cpu())
            labels.append(truth.cpu())
    if not labels:
        raise no_images()
    return torch.cat(logits), torch.cat(labels)


def error_and_loss(network: nn.Module, batches: Batches) -> tuple[float, float]:
    """Percentage of images that are classified wrongly, and the mean cross-entropy in nats."""
    logits, labels = logits_and_labels(network, batches)
    wrong = logits.argmax(1) != labels
    return 100 * float(wrong.double().mean()), float(F.cross_entropy(logits.double(), labels))


def no_images() -> ValueError:
    """The error that all measurements raise when there is nothing to measure."""
    return ValueError("there are no images: batches must be a non-empty list or loader")
