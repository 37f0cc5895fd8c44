"""The test images of a trained network's own run."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from densenet_cli.config.build import build, naming
from densenet_cli.data.image_data import ImageData
from densenet_cli.inference.trained import Trained
from densenet_cli.options import OptionError
from densenet_cli.record.trained_on import other_images, refusal


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
    try:
        with naming("data"):
            data.prepare()
        _check_same(trained, data, options)
    except OptionError as error:
        if error.key != "data.root":
            raise
        raise OptionError("--data-root", error.value, error.rule, error.example) from error
    pixels, labels = data.some_test_images(images)
    count = math.ceil(len(labels) / batch_size)
    parts = zip(pixels.tensor_split(count), labels.tensor_split(count), strict=True)
    return [(trained.inputs(part), its) for part, its in parts]


def _check_same(trained: Trained, data: ImageData, options: dict[str, Any]) -> None:
    """Raise UserError if the images are others than those of the run."""
    now = {"class_names": list(data.class_names), "sizes": data.sizes, "digest": data.digest()}
    if difference := other_images(trained.fields["data"], now):
        rule = (
            f"holds other images than the run was trained on: {difference}; some of them may be none "
            "that it was tested on"
        )
        raise refusal(rule, options)
