"""The test images of a trained network's own run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from densenet_cli.config.build import build, naming
from densenet_cli.data.image_data import ImageData
from densenet_cli.data.skipped import were_read
from densenet_cli.inference.image_batches import Unreadable
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
    data = _data(trained, root, batch_size=batch_size)
    pixels, labels = data.some_test_images(images)
    count = math.ceil(len(labels) / batch_size)
    parts = zip(pixels.tensor_split(count), labels.tensor_split(count), strict=True)
    return [(trained.inputs(part), truth) for part, truth in parts]


def all_batches(
    trained: TrainedNetwork, root: str | None, batch_size: int, ten_crop: bool
) -> Iterator[tuple[list[int], Tensor, Tensor, list[Unreadable]]]:
    """All test images in their order, in batches.

    Args:
        trained, root: as for `batches`.
        batch_size: images in a batch, or crops of them.
        ten_crop: whether to read ten crops of each image.

    Yields:
        The numbers of the n images that can be read, from 1; the images (n, H, W, C) uint8, or
        (n, 10, H, W, C); their labels; those that cannot be read, if the run skips such images.

    Raises:
        UserError: as `batches`; or an image cannot be read, and the run does not skip it.
    """
    given = trained.fields["config"]["data"]
    crops = {"test_crops": 10 if ten_crop else 1} if "test_crops" in given or ten_crop else {}
    data = _data(trained, root, batch_size=batch_size, **crops)
    data.skipped.warns = False  # the caller reports them
    before, reported = 0, 0
    for images, labels in data.test_dataloader():
        are_there = were_read(labels)
        numbers = (before + 1 + are_there.nonzero().flatten()).tolist()
        skipped = list(data.skipped.found.get("test", {}).items())
        unreadable = [Unreadable(name, reason) for name, reason in skipped[reported:]]
        yield numbers, images[are_there], labels[are_there], unreadable
        before, reported = before + len(labels), len(skipped)


def _data(trained: TrainedNetwork, root: str | None, **changed: Any) -> ImageData:
    """The data of a network's run, prepared. Raises UserError as `batches`."""
    options: dict[str, Any] = {**trained.fields["config"]["data"], **changed}
    folder = next((name for name in ("root", "images") if name in options), None)
    if root is not None and folder is None:
        rule = f"the data of this run, {options['_target_']}, are not read from a folder; leave it out"
        raise OptionError("--data-root", root, rule)
    if root is not None and folder is not None:
        options[folder] = root
    if "check" in options:
        options["check"] = False  # an image that is broken is reported when it is read
    data: ImageData = build("data", options)
    try:
        with naming("data"):
            data.prepare()
        _check_same(trained, data, options)
    except OptionError as error:
        if error.key != f"data.{folder}":
            raise
        raise OptionError("--data-root", error.value, error.rule, error.example) from error
    return data


def _check_same(trained: TrainedNetwork, data: ImageData, options: dict[str, Any]) -> None:
    """Raise UserError if the images are not those of the run."""
    now = {"class_names": list(data.class_names), "sizes": data.sizes, "digest": data.digest()}
    if difference := other_images(trained.fields["data"], now):
        rule = (
            f"holds other images than the run was trained on: {difference}; they may not be the images "
            "that the run was tested on"
        )
        raise refusal(rule, options)
