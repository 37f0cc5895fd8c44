"""Testing checkpoints: that of task=test, or the last and the best one of a training run."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

from densenet_cli.data import pixel_statistics
from densenet_cli.data.image_data import ImageData
from densenet_cli.data.in_memory import InMemoryData
from densenet_cli.data.pixel_statistics import PixelStatistics
from densenet_cli.options import OptionError
from densenet_cli.record import trained_on
from densenet_cli.record.run_record import reported_checkpoint
from densenet_cli.run.parts import Run
from densenet_cli.training import checkpoints, metrics

log = logging.getLogger(__name__)


def checkpoint_to_test(config: dict[str, Any]) -> dict[str, Any] | None:
    """The checkpoint of task=test; None for training. Raises UserError if it cannot be read."""
    return checkpoints.load_checkpoint(Path(config["checkpoint"])) if config["task"] == "test" else None


def prepare_data(config: dict[str, Any], data: ImageData, checkpoint: dict[str, Any]) -> None:
    """Normalise images as when the checkpoint was trained, and not by new measurements.

    Raises:
        UserError: if the images have other classes, or another number of channels, than it was
            trained on.
    """
    path = Path(config["checkpoint"])
    before = checkpoint.get("trained_on") or {}
    if difference := trained_on.other_classes(before, {"class_names": list(data.class_names)}):
        rule = f"has other classes than checkpoint={path} was trained on: {difference}"
        raise trained_on.refusal(rule, config["data"])
    channels = before.get("channels", 3)  # no record in outputs/study has it
    if before and channels != data.channels:
        rule = f"has images of {data.channels} channels; checkpoint={path} was trained on {channels}"
        raise trained_on.refusal(rule, config["data"])
    if before.get("image_size", size := list(data.image_size)) != size:
        text = "trained on images of %s pixels, tested on images of %s"
        log.warning(text, *(" x ".join(map(str, one)) for one in (before["image_size"], size)))
    if path.name == "best.ckpt" and (before.get("sizes") or {}).get("validation") == 0:
        text = (
            "%s was chosen by the test images, since its run held out no images: "
            "do not report its test error"
        )
        log.warning(text, path)
    _normalise_as_trained(data, pixel_statistics.saved(checkpoint), before, path)


def _normalise_as_trained(
    data: ImageData, saved: PixelStatistics | None, before: dict[str, Any], path: Path
) -> None:
    """Let the data be normalised by what a checkpoint was trained with, as far as it is known.

    Raises:
        OptionError: for data.normalise, if it was another normalisation by pixels, or another size.
    """
    if saved is not None and saved.kind != data.normalise:
        rule = f"checkpoint={path} was trained with {saved.kind}"
        raise OptionError("data.normalise", data.normalise, rule, saved.kind)
    if saved is None and data.normalise in pixel_statistics.KINDS and before:
        rule = f"checkpoint={path} was trained with another normalisation"
        raise OptionError("data.normalise", data.normalise, rule)
    if saved is not None:
        sizes = [" x ".join(map(str, size)) for size in (saved.image_size, data.image_size)]
        if sizes[0] != sizes[1]:
            rule = (
                f"that of checkpoint={path} is for images of {sizes[0]} pixels; these have {sizes[1]}"
            )
            raise OptionError("data.normalise", data.normalise, rule)
        assert isinstance(data, InMemoryData)
        data.pixel_statistics = saved
    elif data.normalise == "mean_std" and before.get("statistics"):
        data.statistics = dict(before["statistics"])


def test_last_and_best(run: Run) -> dict[str, Any]:
    """Test the weights of the last epoch, and those of the best one if held-out images chose it.

    Returns:
        `test_error` is the error that the recipe reports (recipe.report): on CIFAR that of the last
        epoch, on SVHN that of the epoch with the lowest validation error (DenseNet paper, section 4.2).
        `reported` says whether it belongs to the last or the best epoch. Without held-out images the
        lowest test error of all epochs is noted too, but never reported: the test images chose it.
        `validation_error_last` is that of the last evaluation in the last epoch; `best_step` is the
        step of the best one, if that was within an epoch.
        The classifier then holds what the reported weights made of each test image.
    """
    best_epoch = run.checkpoints.best_epoch
    column = f"{run.data.evaluation_split}_error"
    last, right = test(run), run.classifier.right
    results = {f"{name}_last": value for name, value in last.items()} | {"best_epoch": best_epoch}
    results["reported"] = chosen = reported_checkpoint(
        {"config": run.config, "data": {"sizes": run.data.sizes}, "results": results}
    )
    if run.data.evaluation_split == "test":
        errors = [row[column] for row in run.progress.rows if column in row]  # all are numbers
        return results | {"test_error_best": min(errors, default=None), "best_on_test": True} | last
    if run.checkpoints.best_step is not None:
        results["best_step"] = run.checkpoints.best_step
    results["validation_error_last"] = run.progress.rows[-1].get(column)
    results["validation_error_best"] = run.checkpoints.best_value
    if best_epoch is None:
        if run.config["recipe"]["report"] == "best":
            log.warning("no epoch was evaluated on held-out images: the last epoch is reported")
        return results | last
    run.trainer.strategy.barrier()  # until the first process has written the file
    path = run.checkpoints.best
    checkpoints.load_weights(run.classifier.network, checkpoints.load_checkpoint(path), path)
    best = test(run)
    results |= {f"{name}_best": value for name, value in best.items()}
    if chosen == "best":
        return results | best
    run.classifier.right = right
    return results | last


def test(run: Run) -> dict[str, Any]:
    """Test the network as it is: test error and loss; None for what is not defined on these images."""
    run.trainer.test(run.classifier, datamodule=run.data, verbose=False)
    found = {
        name.replace("/", "_"): metrics.rounded(name, value)
        for name, value in run.trainer.callback_metrics.items()
        if name.startswith("test/")
    }
    return {name: None if math.isnan(value) else value for name, value in found.items()}
