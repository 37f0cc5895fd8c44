"""The test images of a trained network's own run."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from densenet_cli.data.image_data import ImageData
from densenet_cli.inference.trained import Trained
from densenet_cli.instantiation import build, naming


def batches(
    trained: Trained, images: int, root: str | None = None, batch_size: int = 64
) -> list[tuple[Tensor, Tensor]]:
    """Some of the test images, as the network takes them, in batches: (n, 3, H, W) and labels (n,).

    Args:
        trained: says what they are and how they are prepared.
        images: how many, drawn at random but always the same; all if there are no more.
        root: where the data lie, if no longer where the run found them.
        batch_size: images in a batch.

    Raises:
        UserError: if the data are not there.
    """
    options: dict[str, Any] = {**trained.fields["config"]["data"], "batch_size": batch_size}
    if root is not None:
        options["root"] = root
    data: ImageData = build("data", options)
    with naming("data"):
        data.prepare()
    pixels, labels = data.some_test_images(images)
    return [
        (trained.inputs(part), its)
        for part, its in zip(pixels.split(batch_size), labels.split(batch_size), strict=True)
    ]
