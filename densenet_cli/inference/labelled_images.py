"""Images with labels that a trained network knows: of a folder, a pack or a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from densenet_cli.data.folder_layout import labelled_splits, split_folders, subfolders
from densenet_cli.data.image_files import LeftOut
from densenet_cli.data.pack import Pack, PackedPath, is_pack
from densenet_cli.data.table_for_network import files_to_test
from densenet_cli.inference.trained_network import TrainedNetwork
from densenet_cli.options import OptionError, UserError

TESTED = ("test", "validation", "all")  # the first of these splits that there is


class LabelledImages(NamedTuple):
    """Images and their labels.

    Attributes:
        paths: files or PackedPath.
        labels: indices into the network's classes, (n,) int64; or (n, classes) float32, see ImageData.
    """

    paths: Sequence[str]
    labels: np.ndarray


def find(trained: TrainedNetwork, root: Path, images: str | None = None) -> LabelledImages:
    """The test images in a folder, a pack or a table; if there are none, those of validation; else all.

    Args:
        trained: the network.
        root: a folder with a folder for each class, or with such folders in test/ or val/; or a pack of
            one; or a table, see `table_for_network.files_to_test`.
        images: the folder of a table's images; None: that of the table.

    Raises:
        OptionError: the network does not know a class of the images; or it is for images with several
            labels, which no folder can hold.
    """
    if root.is_file():
        return _of_table(trained, root, images)
    if trained.several_labels:
        rule = (
            "holds one class for each image, and images of this network can have several labels; name "
            "a table of them, or leave it out to evaluate the test images of the run"
        )
        raise OptionError("FOLDER", root, rule)
    if images is not None:
        rule = "is for a table, or the test images of the run; a folder has its own: leave out one"
        raise OptionError("--data-root", images, rule)
    of_place = _of_pack if is_pack(root) else _of_folder
    return of_place(root, trained.class_names)


def _of_table(trained: TrainedNetwork, root: Path, images: str | None) -> LabelledImages:
    options, several = trained.fields["config"]["data"], trained.several_labels
    try:
        files = files_to_test(root, images, options, trained.class_names, several)
    except OptionError as error:
        names = {"table": "TABLE", "images": "--data-root"}
        if error.key in names:
            raise OptionError(names[error.key], error.value, error.rule) from error
        raise UserError(f"{root}: {error.rule}") from error
    return LabelledImages(files.paths, files.labels)


def _of_folder(root: Path, class_names: Sequence[str]) -> LabelledImages:
    left_out = LeftOut()
    try:
        folders = split_folders(root, left_out)
        split = next(name for name in TESTED if name in folders)
        found = [path.name for path in subfolders(folders[split])]
        _check_known(root, found, class_names)
        files = labelled_splits(folders, found, left_out, wanted={split})[split]
    except OptionError as error:
        raise OptionError("FOLDER", root, error.rule, error.example) from error
    left_out.warn(root)
    labels = np.array([class_names.index(name) for name in found])
    return LabelledImages(files.paths, labels[files.labels])


def _of_pack(root: Path, class_names: Sequence[str]) -> LabelledImages:
    pack = Pack(root)
    splits, found = pack.files(), pack.facts["classes"]
    _check_known(root, found, class_names)
    files = next(splits[name] for name in TESTED if name in splits)
    labels = np.array([class_names.index(name) for name in found])
    paths = PackedPath.all(pack, files.paths.places_in(pack.paths, root).tolist())
    return LabelledImages(paths, labels[files.labels])


def _check_known(root: Path, found: Sequence[str], class_names: Sequence[str]) -> None:
    """Raise OptionError unless there are classes and the network knows all of them."""
    unknown = [name for name in found if name not in class_names]
    if unknown or not found:
        what = (
            f"classes that the network does not know: {', '.join(unknown)}" if found else "no classes"
        )
        raise OptionError("FOLDER", root, f"has {what}; it knows {', '.join(class_names)}")
