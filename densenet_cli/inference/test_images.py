"""The test images of a trained network's own run."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from densenet_cli.data.image_data import ImageData
from densenet_cli.inference.trained import Trained
from densenet_cli.instantiation import build, naming
from densenet_cli.options import UserError


def batches(
    trained: Trained, images: int, root: str | None = None, batch_size: int = 64
) -> list[tuple[Tensor, Tensor]]:
    """Some of the test images, as the network takes them, in batches: (n, 3, H, W) and labels (n,).

    Batches are equally large but for one image.

    Args:
        trained: says what they are and how they are prepared.
        images: how many, drawn at random but always the same; all if there are no more.
        root: where the data lie, if no longer where the run found them.
        batch_size: the most images in a batch.

    Raises:
        UserError: if the data are not there, or others than those of the run.
    """
    options: dict[str, Any] = {**trained.fields["config"]["data"], "batch_size": batch_size}
    if root is not None:
        options["root"] = root
    if "check" in options:
        options["check"] = False  # of all images of all splits; the run has done so
    data: ImageData = build("data", options)
    with naming("data"):
        data.prepare()
    _check_same(data, trained)
    pixels, labels = data.some_test_images(images)
    count = math.ceil(len(labels) / batch_size)
    parts = zip(pixels.tensor_split(count), labels.tensor_split(count), strict=True)
    return [(trained.inputs(part), its) for part, its in parts]


def _check_same(data: ImageData, trained: Trained) -> None:
    """The data must be those of the run: labels mean something else in others."""
    before, now = trained.class_names, list(data.class_names)
    if now != before:
        changed = ", ".join(sorted(set(now) ^ set(before))) or "their order"
        raise UserError(f"the data have other classes than when the run was trained: {changed}")
    its, here = trained.fields["data"]["sizes"]["test"], data.sizes["test"]
    if its != here:
        raise UserError(
            f"the data have {here:,} test images, {its:,} when the run was trained: they are not those "
            "that it was tested on, and may be some that it was trained on"
        )
