"""The test images of a trained network's own run."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from densenet_cli.config.build import build, naming
from densenet_cli.data.image_data import ImageData
from densenet_cli.inference.trained_network import TrainedNetwork
from densenet_cli.options import OptionError
from densenet_cli.record.trained_on import other_images, refusal


def batches(
    trained: TrainedNetwork, images: int, root: str | None = None, batch_size: int = 64
) -> list[tuple[Tensor, Tensor]]:
    """Some test images, preprocessed for the network, in batches: (n, C, H, W) and labels (n,).

    The sizes of the batches differ by one at most.

    Args:
        trained: the network; its run says which data and which preprocessing.
        images: how many, chosen at random but always the same ones; all if there are fewer.
        root: folder of the data, if they have moved since the run; else None.
        batch_size: images in a batch at most.

    Raises:
        UserError: the data are missing, or are not those of the run.
    """
    options: dict[str, Any] = {**trained.fields["config"]["data"], "batch_size": batch_size}
    folder = next((name for name in ("root", "images") if name in options), None)
    if root is not None and folder is None:
        rule = f"the data of this run, {options['_target_']}, are not read from a folder; leave it out"
        raise OptionError("--data-root", root, rule)
    if root is not None and folder is not None:
        options[folder] = root
    if "check" in options:
        options["check"] = False  # the run has checked all images
    data: ImageData = build("data", options)
    try:
        with naming("data"):
            data.prepare()
        _check_same(trained, data, options)
    except OptionError as error:
        if error.key != f"data.{folder}":
            raise
        raise OptionError("--data-root", error.value, error.rule, error.example) from error
    pixels, labels = data.some_test_images(images)
    count = math.ceil(len(labels) / batch_size)
    parts = zip(pixels.tensor_split(count), labels.tensor_split(count), strict=True)
    return [(trained.inputs(part), truth) for part, truth in parts]


def _check_same(trained: TrainedNetwork, data: ImageData, options: dict[str, Any]) -> None:
    """Raise UserError if the images are not those of the run."""
    now = {"class_names": list(data.class_names), "sizes": data.sizes, "digest": data.digest()}
    if difference := other_images(trained.fields["data"], now):
        rule = (
            f"holds other images than the run was trained on: {difference}; they may not be the images "
            "that the run was tested on"
        )
        raise refusal(rule, options)
