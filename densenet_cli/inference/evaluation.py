"""The error and loss of a trained network on images other than those of its run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from densenet_cli.data.folder_layout import labelled_splits, split_folders, subfolders
from densenet_cli.data.image_files import LeftOut
from densenet_cli.data.pack import Pack, PackedPath, is_pack
from densenet_cli.figures.terminal import console, table
from densenet_cli.inference import image_batches
from densenet_cli.inference.image_batches import Unreadable
from densenet_cli.inference.trained_network import TrainedNetwork
from densenet_cli.options import OptionError, UserError
from densenet_cli.training import metrics


@dataclass(frozen=True)
class Evaluation:
    """A network's predictions for labelled images.

    Attributes:
        paths: the image files, N of them.
        logits: (N, classes).
        labels: (N,) indices of the true classes.
        class_names: label 0 first.
        unreadable: files that are left out.
        measured: "loss", "error" and, with more than five classes, "top5_error", as runs measure them.
        crops: of each image, 1 or 10, whose logits are added up.
    """

    paths: list[str]
    logits: Tensor
    labels: Tensor
    class_names: list[str]
    unreadable: list[Unreadable]
    measured: dict[str, float]
    crops: int = 1

    def class_errors(self) -> list[tuple[str, float, int]]:
        """Name, error in percent and number of images of each class that has images."""
        wrong = ~metrics.are_right(self.logits, self.labels)
        counts = torch.bincount(self.labels, minlength=len(self.class_names)).tolist()
        errors = torch.bincount(self.labels[wrong], minlength=len(self.class_names)).tolist()
        rows = zip(self.class_names, errors, counts, strict=True)
        return [(name, 100 * error / count, count) for name, error, count in rows if count]


def evaluate(
    trained: TrainedNetwork, root: Path, batch_size: int | None = None, ten_crop: bool | None = None
) -> Evaluation:
    """Evaluate a network on all images of a folder that has a folder for each class.

    Args:
        trained: the network.
        root: root/<class>/...; if it has train/ and test/ or val/, the images of test/, else of val/.
            Or a pack of such a folder.
        batch_size: images, or crops of them, at a time; None: as in the network's run.
        ten_crop: whether to add up the logits of ten crops of each image, which takes ten times as
            long; None: as in the run's own test, data.test_crops.

    Raises:
        OptionError: the network does not know a class of the folder.
        UserError: none of the images can be read, or ten crops are asked for and the network takes
            images whole.
    """
    if ten_crop is None:
        ten_crop = trained.fields["config"]["data"].get("test_crops", 1) == 10
    if ten_crop:
        trained.check_ten_crops()
    files = _files(root, trained.class_names)
    crop = trained.ten_crops if ten_crop else trained.crop
    batch_size = batch_size or trained.batch_size
    at_once = max(1, batch_size // 10) if ten_crop else batch_size
    collection = metrics.of_evaluation(len(trained.class_names))
    read: list[int] = []
    logits: list[Tensor] = []
    unreadable: list[Unreadable] = []
    for indices, images, others in image_batches.batches(files.paths, crop, at_once):
        read += indices
        unreadable += others
        if indices:
            logits.append(trained.logits(images))
            truth = torch.from_numpy(files.labels[indices])
            metrics.update(collection, logits[-1], truth, F.cross_entropy(logits[-1], truth))
    if not read:
        why = image_batches.first_reason(unreadable)
        raise UserError(f"{root}: none of its {len(files.paths)} images can be read{why}")
    labels = torch.from_numpy(files.labels)[read]
    paths = [files.paths[index] for index in read]
    measured = {name: metrics.rounded(name, value) for name, value in collection.compute().items()}
    names, crops = trained.class_names, 10 if ten_crop else 1
    return Evaluation(paths, torch.cat(logits), labels, names, unreadable, measured, crops)


def show(evaluation: Evaluation) -> None:
    """Print the errors, then those of each class, the highest first."""
    out, measured = console(), evaluation.measured
    crops = ", ten crops of each" if evaluation.crops == 10 else ""
    images = f"{len(evaluation.paths):,}{crops}"
    lines = [("images", images), ("error", f"{measured['error']:.2f} %")]
    if "top5_error" in measured:
        lines.append(("top-5 error", f"{measured['top5_error']:.2f} %"))
    lines.append(("loss", f"{measured['loss']:.4f}"))
    for title, text in lines:
        out.print(f"{title:<14} {text}")
    classes = sorted(evaluation.class_errors(), key=lambda row: -row[1])
    rows = [(name, f"{error:.1f} %", f"{count:,}") for name, error, count in classes]
    out.print(table(("class", "error", "images"), rows, text=("class",)))


def document(evaluation: Evaluation) -> dict[str, Any]:
    """The errors for JSON; the classes by error, the highest first."""
    classes = sorted(evaluation.class_errors(), key=lambda row: -row[1])
    return {
        "images": len(evaluation.paths),
        "crops": evaluation.crops,
        "error_percent": evaluation.measured["error"],
        "top5_error_percent": evaluation.measured.get("top5_error"),
        "loss": evaluation.measured["loss"],
        "classes": [
            {"class": name, "error_percent": error, "images": count} for name, error, count in classes
        ],
        "unreadable": [{"file": one.path, "reason": one.reason} for one in evaluation.unreadable],
    }


class _Labelled(NamedTuple):
    """Images, as files or PackedPath, and (n,) the network's labels of them."""

    paths: Sequence[str]
    labels: np.ndarray


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
