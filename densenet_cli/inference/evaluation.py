"""How a trained network does on pictures that its run did not know."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from rich import box
from rich.table import Table
from torch import Tensor

from densenet_cli.data.folder_layout import Files, labelled_splits, split_folders, subfolders
from densenet_cli.data.photo import centre_crop
from densenet_cli.data.picture_files import LeftOut
from densenet_cli.figures.terminal import console, plain
from densenet_cli.inference import pictures
from densenet_cli.inference.pictures import Unreadable
from densenet_cli.inference.trained import Trained
from densenet_cli.options import OptionError, UserError
from densenet_cli.training import metrics


@dataclass(frozen=True)
class Answers:
    """What a network said of labelled pictures.

    Attributes:
        paths: the files.
        logits: (N, classes).
        labels: (N,) indices of the true classes.
        class_names: label 0 first.
        unreadable: files that are left out.
        measured: "loss", "error" and, of more than five classes, "top5_error", as runs measure them.
    """

    paths: list[str]
    logits: Tensor
    labels: Tensor
    class_names: list[str]
    unreadable: list[Unreadable]
    measured: dict[str, float]

    def errors_of_classes(self) -> list[tuple[str, float, int]]:
        """Name, error in percent and number of pictures of each class that has any."""
        wrong = ~metrics.are_right(self.logits, self.labels)
        counts = torch.bincount(self.labels, minlength=len(self.class_names))
        faults = torch.bincount(self.labels[wrong], minlength=len(self.class_names))
        return [
            (name, 100 * fault / count, count)
            for name, fault, count in zip(
                self.class_names, faults.tolist(), counts.tolist(), strict=True
            )
            if count
        ]


def evaluate(trained: Trained, root: Path, batch_size: int | None = None) -> Answers:
    """Ask the network about all pictures of a folder that holds a folder for each class.

    Args:
        trained: the network.
        root: root/<class>/...; if there are train/ and test/ or val/, those of test/, else of val/.
        batch_size: pictures at a time; None: as many as in the network's run.

    Raises:
        OptionError: if the folder's classes are not those of the network.
        UserError: if none of its pictures can be read.
    """
    files = _files(root, trained.class_names)
    cut = functools.partial(centre_crop, size=trained.image_size[0], fraction=trained.kept)
    counted = metrics.classification_metrics(len(trained.class_names))
    read: list[int] = []
    logits: list[Tensor] = []
    unreadable: list[Unreadable] = []
    for indices, images, others in pictures.batches(files.paths, cut, batch_size or trained.batch_size):
        read += indices
        unreadable += others
        if indices:
            logits.append(trained.logits(images))
            truth = torch.from_numpy(files.labels[indices])
            metrics.update(counted, logits[-1], truth, F.cross_entropy(logits[-1], truth))
    if not read:
        why = pictures.first_of(unreadable)
        raise UserError(f"{root}: none of its {len(files.paths)} pictures can be read{why}")
    labels = torch.from_numpy(files.labels)[read]
    paths = [files.paths[index] for index in read]
    measured = {name: metrics.rounded(name, value) for name, value in counted.compute().items()}
    return Answers(paths, torch.cat(logits), labels, trained.class_names, unreadable, measured)


def show(answers: Answers) -> None:
    """Print errors, and the classes that are mistaken most."""
    out, measured = console(), answers.measured
    lines = [("pictures", f"{len(answers.paths):,}"), ("error", f"{measured['error']:.2f} %")]
    if "top5_error" in measured:
        lines.append(("top-5 error", f"{measured['top5_error']:.2f} %"))
    lines.append(("loss", f"{measured['loss']:.4f}"))
    for title, text in lines:
        out.print(f"{title:<14} {text}", highlight=False)
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("class", "error", "pictures"):
        table.add_column(heading, justify="left" if heading == "class" else "right")
    for name, error, count in sorted(answers.errors_of_classes(), key=lambda row: -row[1]):
        table.add_row(plain(name), f"{error:.1f} %", str(count))
    out.print(table)


def _files(root: Path, names: Sequence[str]) -> Files:
    """The pictures of the classes that are there; all must be known to the network."""
    left_out = LeftOut()
    try:
        folders = split_folders(root, left_out)
        split = next(name for name in ("test", "validation", "all") if name in folders)
        found = [path.name for path in subfolders(folders[split])]
        _check_known(root, found, names)
        files = labelled_splits(folders, found, left_out, wanted={split})[split]
    except OptionError as error:
        raise OptionError("FOLDER", root, error.rule, error.example) from error
    left_out.say(root)
    places = torch.tensor([names.index(name) for name in found])
    return Files(files.paths, places[torch.from_numpy(files.labels)].numpy())


def _check_known(root: Path, found: Sequence[str], names: Sequence[str]) -> None:
    unknown = [name for name in found if name not in names]
    if unknown or not found:
        what = (
            f"classes that the network does not know: {', '.join(unknown)}"
            if found
            else "no class folder"
        )
        raise OptionError("FOLDER", root, f"has {what}; it knows {', '.join(names)}")
