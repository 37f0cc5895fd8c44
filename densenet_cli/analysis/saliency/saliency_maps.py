"""Grad-CAM and occlusion maps of a trained network, for image files or test images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from densenet_cli.analysis.forward import Batches
from densenet_cli.analysis.saliency.grad_cam import grad_cam
from densenet_cli.analysis.saliency.occlusion import occlusion
from densenet_cli.inference import image_batches
from densenet_cli.inference.image_batches import Unreadable
from densenet_cli.inference.trained_network import TrainedNetwork
from densenet_cli.options import UserError, choice

BATCH = 16  # images whose feature maps are in memory at a time


@dataclass(frozen=True)
class Images:
    """Images preprocessed for one network.

    Attributes:
        names: files, or numbers of test images.
        classes: the true class of each, or its labels; None if it is not known.
        inputs: (n, 3, H, W), normalised.
    """

    names: Sequence[str]
    classes: Sequence[str | None]
    inputs: Tensor


@dataclass(frozen=True)
class Saliency:
    """A network's predictions for n images, and the evidence for a class in each.

    Attributes:
        predicted: the predicted class of each.
        confidence: its probability, 0..1, (n,).
        explained: the class whose evidence the maps show, for each.
        probability: of that class, 0..1, (n,).
        pixels: the images, (n, H, W, 3), 0..1.
        grad_cam: (n, H, W), see `grad_cam.grad_cam`.
        occlusion: (n, H, W), see `occlusion.occlusion`.
    """

    predicted: list[str]
    confidence: Tensor
    explained: list[str]
    probability: Tensor
    pixels: Tensor
    grad_cam: Tensor
    occlusion: Tensor


def saliency(
    trained: TrainedNetwork,
    inputs: Tensor,
    class_name: str | None = None,
    layer: str | None = None,
    patch: int | None = None,
) -> Saliency:
    """A network's predictions for images, and the evidence for them.

    Args:
        trained: the network.
        inputs: (n, 3, H, W), normalised.
        class_name: the class to explain; None: the predicted class of each image.
        layer, patch: see `grad_cam.grad_cam` and `occlusion.occlusion`.

    Raises:
        OptionError: the network has no such class or layer, or the patch is too large.
    """
    names, network = trained.class_names, trained.network
    with torch.no_grad():
        logits = torch.cat([network(part).float().cpu() for part in inputs.split(BATCH)])
    probabilities, predicted = trained.probabilities(logits), logits.argmax(1)
    confidence = probabilities.gather(1, predicted[:, None])[:, 0]
    labels = predicted
    if class_name is not None:
        labels = torch.full_like(predicted, names.index(choice("--class", class_name, names)))
    parts = list(zip(inputs.split(BATCH), labels.split(BATCH), strict=True))
    return Saliency(
        [names[label] for label in predicted],
        confidence,
        [names[label] for label in labels],
        probabilities.gather(1, labels[:, None])[:, 0],
        trained.pixels(inputs),
        torch.cat([grad_cam(network, *part, layer) for part in parts]),
        torch.cat([occlusion(network, *part, patch, trained.probabilities) for part in parts]),
    )


def from_batches(trained: TrainedNetwork, batches: Batches) -> Images:
    """The test images of a run, in batches of inputs and labels, with the names 1, 2, ..."""
    labels = [_named(trained, label) for _, truth in batches for label in truth]
    inputs = torch.cat([images for images, _ in batches])
    return Images([str(number) for number in range(1, len(labels) + 1)], labels, inputs)


def _named(trained: TrainedNetwork, label: Tensor) -> str:
    """The name of a label; of several labels the names of those that are present."""
    if label.ndim == 0:
        return trained.class_names[label]
    names = [trained.class_names[index] for index in (label == 1).nonzero().flatten()]
    return ", ".join(names) or "none"


def from_files(trained: TrainedNetwork, paths: Sequence[str]) -> tuple[Images, list[Unreadable]]:
    """Image files preprocessed for the network, and those that cannot be read.

    The true class of an image is the name of its folder, if the network has a class of that name.

    Raises:
        UserError: none of them can be read.
    """
    ((indices, images, unreadable),) = image_batches.batches(paths, trained.crop, len(paths))
    if not indices:
        first = unreadable[0]
        raise UserError(f"none of {len(paths)} image files can be read; {first.path}: {first.reason}")
    read = [os.fsencode(paths[index]).decode(errors="replace") for index in indices]
    folders = [Path(path).absolute().parent.name for path in read]
    classes = [name if name in trained.class_names else None for name in folders]
    return Images(read, classes, trained.inputs(images)), unreadable
