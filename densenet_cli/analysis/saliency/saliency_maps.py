"""What trained networks look at in the same pictures: Grad-CAM and occlusion of each."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from densenet_cli.analysis.forward import Batches
from densenet_cli.analysis.saliency.grad_cam import grad_cam
from densenet_cli.analysis.saliency.occlusion import occlusion
from densenet_cli.data.photo import centre_crop
from densenet_cli.inference import pictures
from densenet_cli.inference.pictures import Unreadable
from densenet_cli.inference.trained import Trained
from densenet_cli.options import UserError, choice

BATCH = 16  # images whose maps are all kept at a time


@dataclass(frozen=True)
class Seen:
    """Pictures as one network takes them.

    Attributes:
        names: files, or numbers of test images.
        classes: the true class of each; None where it is not known.
        inputs: (n, 3, H, W), normalised.
    """

    names: Sequence[str]
    classes: Sequence[str | None]
    inputs: Tensor


@dataclass(frozen=True)
class Saliency:
    """What a network takes n pictures for, and where it sees that.

    Attributes:
        taken_for: the likeliest class of each.
        confidence: its probability, 0..1, (n,).
        wanted: the class that was looked for in each.
        probability: of that class, 0..1, (n,).
        pixels: the pictures, (n, H, W, 3), 0..1.
        grad_cam: (n, H, W), see `grad_cam.grad_cam`.
        occlusion: (n, H, W), see `occlusion.occlusion`.
    """

    taken_for: list[str]
    confidence: Tensor
    wanted: list[str]
    probability: Tensor
    pixels: Tensor
    grad_cam: Tensor
    occlusion: Tensor


def saliency(
    trained: Trained,
    inputs: Tensor,
    wanted: str | None = None,
    layer: str | None = None,
    patch: int | None = None,
) -> Saliency:
    """Ask a network about pictures, and where it sees what it says.

    Args:
        trained: the network.
        inputs: (n, 3, H, W), normalised.
        wanted: the class to look for; None: in each picture the one that it is taken for.
        layer, patch: see `grad_cam.grad_cam` and `occlusion.occlusion`.

    Raises:
        OptionError: the network knows no such class, has no such layer, or the patch is too large.
    """
    names, network = trained.class_names, trained.network
    with torch.no_grad():
        logits = torch.cat([network(part).float().cpu() for part in inputs.split(BATCH)])
    chances, predicted = logits.softmax(1), logits.argmax(1)
    confidence = chances.gather(1, predicted[:, None])[:, 0]
    labels = predicted
    if wanted is not None:
        labels = torch.full_like(predicted, names.index(choice("--class", wanted, names)))
    parts = list(zip(inputs.split(BATCH), labels.split(BATCH), strict=True))
    return Saliency(
        [names[label] for label in predicted],
        confidence,
        [names[label] for label in labels],
        chances.gather(1, labels[:, None])[:, 0],
        trained.pixels(inputs),
        torch.cat([grad_cam(network, *part, layer) for part in parts]),
        torch.cat([occlusion(network, *part, patch) for part in parts]),
    )


def test_images(trained: Trained, batches: Batches) -> Seen:
    """Test images of a run, in batches of inputs and labels, with the numbers 1, 2, ... as names."""
    labels = [trained.class_names[label] for _, its in batches for label in its]
    inputs = torch.cat([images for images, _ in batches])
    return Seen([str(number) for number in range(1, len(labels) + 1)], labels, inputs)


def files(trained: Trained, paths: Sequence[str]) -> tuple[Seen, list[Unreadable]]:
    """Pictures as the network takes them, and what is none.

    A picture's class is taken to be the name of its folder, if the network has a class of that name.

    Raises:
        UserError: none of them can be read.
    """
    cut = functools.partial(centre_crop, size=trained.image_size[0], fraction=trained.kept)
    ((indices, images, unreadable),) = pictures.batches(paths, cut, len(paths))
    if not indices:
        first = unreadable[0]
        raise UserError(f"none of {len(paths)} pictures can be read; {first.path}: {first.reason}")
    read = [os.fsencode(paths[index]).decode(errors="replace") for index in indices]
    folders = [Path(path).absolute().parent.name for path in read]
    classes = [name if name in trained.class_names else None for name in folders]
    return Seen(read, classes, trained.inputs(images)), unreadable
