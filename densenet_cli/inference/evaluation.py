"""The error and loss of a trained network on a folder of images, or on the test images of its run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from densenet_cli.data.folder_layout import labelled_splits, split_folders, subfolders
from densenet_cli.data.image_files import LeftOut
from densenet_cli.data.pack import Pack, PackedPath, is_pack
from densenet_cli.data.table_for_network import files_to_test
from densenet_cli.figures.terminal import console, table
from densenet_cli.inference import image_batches, run_images
from densenet_cli.inference.image_batches import Unreadable
from densenet_cli.inference.trained_network import TrainedNetwork
from densenet_cli.options import OptionError, UserError
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

    def classes(self) -> list[OfClass]:
        """The classes that images have, the highest error first; then those without one."""
        found = self._of_labels() if self.several_labels else self._of_classes()
        return sorted(found, key=lambda one: (one.error is None, -(one.error or 0)))

    def _of_classes(self) -> list[OfClass]:
        wrong = ~metrics.are_right(self.logits, self.labels)
        counts = torch.bincount(self.labels, minlength=len(self.class_names)).tolist()
        errors = torch.bincount(self.labels[wrong], minlength=len(self.class_names)).tolist()
        rows = zip(self.class_names, errors, counts, strict=True)
        return [OfClass(name, 100 * error / count, count) for name, error, count in rows if count]

    def _of_labels(self) -> list[OfClass]:
        aurocs = label_metrics.auroc(self.logits, label_metrics.whole(self.labels))
        f1 = label_metrics.MacroF1(len(self.class_names))
        f1.update(self.logits, self.labels)
        rows = zip(self.class_names, aurocs.tolist(), f1.of_each().tolist(), f1.present, strict=True)
        return [
            OfClass(name, None, int(count))
            if math.isnan(auroc)
            else OfClass(name, 100 * (1 - auroc), int(count), auroc, own)
            for name, auroc, own, count in rows
        ]


class OfClass(NamedTuple):
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
    loss = trained.loss
    collection = metrics.of_evaluation(len(trained.class_names), trained.several_labels)
    found = _Found([], [], [], [])
    if root is None:
        batches = _of_run(trained, data_root, batch_size, ten_crop, found)
    else:
        at_once = max(1, batch_size // 10) if ten_crop else batch_size
        files = _labelled(trained, root, data_root)
        batches = _of_files(trained, root, files, at_once, ten_crop, found)
    for images, labels in batches:
        logits = trained.logits(images)
        found.logits.append(logits)
        found.labels.append(labels)
        metrics.update(collection, logits, labels, loss.of_evaluation(logits, labels))
    values = {name: metrics.rounded(name, one) for name, one in metrics.compute(collection).items()}
    metrics.warn_of_left_out(collection, "test" if root is None else str(root), trained.class_names)
    return Evaluation(
        found.names,
        torch.cat(found.logits),
        torch.cat(found.labels),
        trained.class_names,
        found.unreadable,
        {name: None if math.isnan(value) else value for name, value in values.items()},
        10 if ten_crop else 1,
    )


class _Found(NamedTuple):
    """What was read so far: names of images, their logits and labels by batch, unreadable files."""

    names: list[str]
    logits: list[Tensor]
    labels: list[Tensor]
    unreadable: list[Unreadable]


def _of_run(
    trained: TrainedNetwork, data_root: str | None, batch_size: int, ten_crop: bool, found: _Found
) -> Iterator[tuple[Tensor, Tensor]]:
    """Images and labels of the run's own test images."""
    for images, labels in run_images.all_batches(trained, data_root, batch_size, ten_crop):
        first = len(found.names) + 1
        found.names.extend(map(str, range(first, first + len(labels))))
        yield images, labels


def _of_files(
    trained: TrainedNetwork,
    root: Path,
    files: _Labelled,
    batch_size: int,
    ten_crop: bool,
    found: _Found,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Images and labels of a folder, a pack or a table."""
    crop = trained.ten_crops if ten_crop else trained.crop
    for indices, images, unreadable in image_batches.batches(files.paths, crop, batch_size):
        found.unreadable.extend(unreadable)
        if indices:
            found.names.extend(files.paths[index] for index in indices)
            yield images, torch.from_numpy(files.labels[indices])
    if not found.names:
        why = image_batches.first_reason(found.unreadable)
        raise UserError(f"{root}: none of its {len(files.paths)} images can be read{why}")


def show(evaluation: Evaluation) -> None:
    """Print the errors, then those of each class, the highest first; of several labels AUROC and F1."""
    out, measured, several = console(), evaluation.measured, evaluation.several_labels
    crops = ", ten crops of each" if evaluation.crops == 10 else ""
    lines = [("images", f"{len(evaluation.paths):,}{crops}")]
    if several:
        auroc = None if measured["error"] is None else 1 - measured["error"] / 100
        lines += [("AUROC", _number(auroc)), ("F1", _number(measured["f1"]))]
    else:
        titles = {"error": "error", "balanced_error": "balanced error", "top5_error": "top-5 error"}
        lines += [(titles[name], f"{measured[name]:.2f} %") for name in titles if name in measured]
    lines.append(("loss", f"{measured['loss']:.4f}"))
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
    measured, error = evaluation.measured, evaluation.measured["error"]
    return {
        "images": len(evaluation.paths),
        "crops": evaluation.crops,
        "error_percent": error,
        "balanced_error_percent": measured.get("balanced_error"),
        "top5_error_percent": measured.get("top5_error"),
        "auroc": 1 - error / 100 if evaluation.several_labels and error is not None else None,
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


class _Labelled(NamedTuple):
    """Images, as files or PackedPath, and the network's labels of them: (n,), or (n, classes)."""

    paths: Sequence[str]
    labels: np.ndarray


def _labelled(trained: TrainedNetwork, root: Path, data_root: str | None) -> _Labelled:
    """The images of a folder, a pack or a table."""
    if root.is_file():
        return _of_table(trained, root, data_root)
    if trained.several_labels:
        rule = (
            "holds one class for each image, and images of this network can have several labels; name "
            "a table of them, or leave it out to evaluate the test images of the run"
        )
        raise OptionError("FOLDER", root, rule)
    if data_root is not None:
        rule = "is for a table, or the test images of the run; a folder has its own: leave out one"
        raise OptionError("--data-root", data_root, rule)
    return _files(root, trained.class_names)


def _of_table(trained: TrainedNetwork, root: Path, data_root: str | None) -> _Labelled:
    options, several = trained.fields["config"]["data"], trained.several_labels
    try:
        files = files_to_test(root, data_root, options, trained.class_names, several)
    except OptionError as error:
        names = {"table": "TABLE", "images": "--data-root"}
        if error.key in names:
            raise OptionError(names[error.key], error.value, error.rule) from error
        raise UserError(f"{root}: {error.rule}") from error
    return _Labelled(files.paths, files.labels)


def _files(root: Path, class_names: Sequence[str]) -> _Labelled:
    """The images of the classes in the folder, all of which the network must know."""
    if is_pack(root):
        return _packed(root, class_names)
    left_out = LeftOut()
    try:
        folders = split_folders(root, left_out)
        split = next(name for name in ("test", "validation", "all") if name in folders)
        found = [path.name for path in subfolders(folders[split])]
        _check_known(root, found, class_names)
        files = labelled_splits(folders, found, left_out, wanted={split})[split]
    except OptionError as error:
        raise OptionError("FOLDER", root, error.rule, error.example) from error
    left_out.warn(root)
    labels = np.array([class_names.index(name) for name in found])
    return _Labelled(files.paths, labels[files.labels])


def _packed(root: Path, class_names: Sequence[str]) -> _Labelled:
    """The same of a pack."""
    pack = Pack(root)
    splits, found = pack.files(), pack.facts["classes"]
    _check_known(root, found, class_names)
    files = next(splits[name] for name in ("test", "validation", "all") if name in splits)
    labels = np.array([class_names.index(name) for name in found])
    paths = PackedPath.all(pack, files.paths.places_in(pack.paths, root).tolist())
    return _Labelled(paths, labels[files.labels])


def _check_known(root: Path, found: Sequence[str], class_names: Sequence[str]) -> None:
    unknown = [name for name in found if name not in class_names]
    if unknown or not found:
        what = (
            f"classes that the network does not know: {', '.join(unknown)}" if found else "no classes"
        )
        raise OptionError("FOLDER", root, f"has {what}; it knows {', '.join(class_names)}")
