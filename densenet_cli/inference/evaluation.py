"""The error and loss of a trained network on labelled images, or on the test images of its run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from densenet_cli.figures.terminal import console, table
from densenet_cli.inference import image_batches, labelled_images, run_images
from densenet_cli.inference.image_batches import Unreadable
from densenet_cli.inference.trained_network import TrainedNetwork
from densenet_cli.options import UserError
from densenet_cli.training import label_metrics, metrics


@dataclass(frozen=True)
class Evaluation:
    """A network's predictions for labelled images.

    Attributes:
        paths: the image files, N of them; or numbers of test images.
        logits: (N, classes).
        labels: (N,) indices of the true classes; or (N, classes) of 0, 1 and NaN (not known).
        class_names: label 0 first.
        unreadable: files that are left out.
        measured: "loss", "error" and others, as runs measure them: see `training.metrics`.
        crops: of each image, 1 or 10, whose logits are added up.
    """

    paths: list[str]
    logits: Tensor
    labels: Tensor
    class_names: list[str]
    unreadable: list[Unreadable]
    measured: dict[str, float | None]
    crops: int = 1

    @property
    def several_labels(self) -> bool:
        """Whether an image can have several labels."""
        return self.labels.ndim == 2

    @property
    def auroc(self) -> float | None:
        """The mean AUROC, 0 to 1; None if no label has one, or images have one label each."""
        error = self.measured["error"] if self.several_labels else None
        return None if error is None else 1 - error / 100

    def classes(self) -> list[ClassResult]:
        """The classes that images have, the highest error first; then those without one."""
        found = self._of_labels() if self.several_labels else self._of_classes()
        return sorted(found, key=lambda one: (one.error is None, -(one.error or 0)))

    def _of_classes(self) -> list[ClassResult]:
        wrong = ~metrics.are_right(self.logits, self.labels)
        counts = torch.bincount(self.labels, minlength=len(self.class_names)).tolist()
        errors = torch.bincount(self.labels[wrong], minlength=len(self.class_names)).tolist()
        rows = zip(self.class_names, errors, counts, strict=True)
        return [ClassResult(name, 100 * error / count, count) for name, error, count in rows if count]

    def _of_labels(self) -> list[ClassResult]:
        aurocs = label_metrics.auroc(self.logits, label_metrics.whole(self.labels))
        f1 = label_metrics.MacroF1(len(self.class_names))
        f1.update(self.logits, self.labels)
        rows = zip(self.class_names, aurocs.tolist(), f1.of_each().tolist(), f1.present, strict=True)
        return [
            ClassResult(name, None, int(count))  # no AUROC is defined, see `label_metrics`
            if math.isnan(auroc)
            else ClassResult(name, 100 * (1 - auroc), int(count), auroc, own)
            for name, auroc, own, count in rows
        ]


class ClassResult(NamedTuple):
    """What a network makes of one class.

    Attributes:
        name: of the class.
        error: the percentage of its images that are classified wrongly; of several labels 100 % minus
            the AUROC, None if no image or every one has the label.
        images: those that have its label.
        auroc, f1: of one of several labels, 0 to 1; else None.
    """

    name: str
    error: float | None
    images: int
    auroc: float | None = None
    f1: float | None = None


def evaluate(
    trained: TrainedNetwork,
    root: Path | None,
    batch_size: int | None = None,
    ten_crop: bool | None = None,
    data_root: str | None = None,
) -> Evaluation:
    """Evaluate a network on labelled images.

    Args:
        trained: the network.
        root: root/<class>/...; if it has train/ and test/ or val/, the images of test/, else of val/.
            Or a pack of such a folder; or a table of images, see `table_for_network.files_to_test`.
            None: the test images of the network's own run.
        batch_size: images, or crops of them, at a time; None: as in the network's run.
        ten_crop: whether to add up the logits of ten crops of each image, which takes ten times as
            long; None: as in the run's own test, data.test_crops.
        data_root: with root None, the folder of the run's data, if they have moved, else None; with a
            table, the folder of its images, None: that of the table.

    Raises:
        OptionError: the network does not know a class of the images; or it is for images with several
            labels, which no folder can hold.
        UserError: none of the images can be read; ten crops are asked for and the network takes images
            whole; or the data of the run are missing or have changed.
    """
    if ten_crop is None:
        ten_crop = trained.fields["config"]["data"].get("test_crops", 1) == 10
    if ten_crop:
        trained.check_ten_crops()
    batch_size = batch_size or trained.batch_size
    collection = metrics.of_evaluation(len(trained.class_names), trained.several_labels)
    loss, where = trained.loss.of_evaluation, "test" if root is None else str(root)
    names, unreadable = list[str](), list[Unreadable]()
    all_logits, all_labels = list[Tensor](), list[Tensor]()
    for part in _parts(trained, root, data_root, batch_size, ten_crop):
        unreadable += part.unreadable
        if part.names:
            logits = trained.logits(part.images)
            metrics.update(collection, logits, part.labels, loss(logits, part.labels))
            names += part.names
            all_logits.append(logits)
            all_labels.append(part.labels)
    if not names:
        why = image_batches.first_reason(unreadable)
        raise UserError(f"{where}: none of its {len(unreadable)} images can be read{why}")
    values = {name: metrics.rounded(name, one) for name, one in metrics.compute(collection).items()}
    metrics.warn_of_left_out(collection, where, trained.class_names)
    return Evaluation(
        names,
        torch.cat(all_logits),
        torch.cat(all_labels),
        trained.class_names,
        unreadable,
        {name: None if math.isnan(value) else value for name, value in values.items()},
        10 if ten_crop else 1,
    )


class _Part(NamedTuple):
    """Some of the images that can be read, by name, and the files before them that cannot."""

    names: list[str]
    images: Tensor
    labels: Tensor
    unreadable: list[Unreadable]


def _parts(
    trained: TrainedNetwork,
    root: Path | None,
    data_root: str | None,
    batch_size: int,
    ten_crop: bool,
) -> Iterator[_Part]:
    """The images in batches; see `evaluate`."""
    if root is None:
        found = run_images.all_batches(trained, data_root, batch_size, ten_crop)
        for numbers, images, labels, unreadable in found:
            yield _Part(list(map(str, numbers)), images, labels, unreadable)
        return
    files = labelled_images.find(trained, root, data_root)
    crop, at_once = trained.crop, batch_size
    if ten_crop:
        crop, at_once = trained.ten_crops, max(1, batch_size // 10)
    for indices, images, unreadable in image_batches.batches(files.paths, crop, at_once):
        paths = [files.paths[index] for index in indices]
        yield _Part(paths, images, torch.from_numpy(files.labels[indices]), unreadable)


def show(evaluation: Evaluation) -> None:
    """Print the errors, then those of each class, the highest first; of several labels AUROC and F1."""
    out, measured, several = console(), evaluation.measured, evaluation.several_labels
    crops = ", ten crops of each" if evaluation.crops == 10 else ""
    lines = [("images", f"{len(evaluation.paths):,}{crops}")]
    if several:
        lines += [("AUROC", _number(evaluation.auroc)), ("F1", _number(measured["f1"]))]
    else:
        titles = {"error": "error", "balanced_error": "balanced error", "top5_error": "top-5 error"}
        lines += [(titles[name], f"{measured[name]:.2f} %") for name in titles if name in measured]
    lines.append(("loss", _number(measured["loss"])))
    for title, text in lines:
        out.print(f"{title:<14} {text}")
    classes = evaluation.classes()
    if several:
        rows = [(one.name, _number(one.auroc), _number(one.f1), f"{one.images:,}") for one in classes]
        out.print(table(("label", "AUROC", "F1", "images with it"), rows, text=("label",)))
    else:
        errors = [(one.name, f"{one.error:.1f} %", f"{one.images:,}") for one in classes]
        out.print(table(("class", "error", "images"), errors, text=("class",)))


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def document(evaluation: Evaluation) -> dict[str, Any]:
    """The errors for JSON; the classes by error, the highest first."""
    measured = evaluation.measured
    return {
        "images": len(evaluation.paths),
        "crops": evaluation.crops,
        "error_percent": measured["error"],
        "balanced_error_percent": measured.get("balanced_error"),
        "top5_error_percent": measured.get("top5_error"),
        "auroc": evaluation.auroc,
        "f1": measured.get("f1"),
        "loss": measured["loss"],
        "classes": [
            {
                "class": one.name,
                "error_percent": one.error,
                "images": one.images,
                "auroc": one.auroc,
                "f1": one.f1,
            }
            for one in evaluation.classes()
        ],
        "unreadable": [{"file": one.path, "reason": one.reason} for one in evaluation.unreadable],
    }
