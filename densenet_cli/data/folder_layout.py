"""Which files of a folder belong to which split and class."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torchvision.datasets.folder import IMG_EXTENSIONS

from densenet_cli.options import OptionError

ROLES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class Files:
    """Image files and their classes.

    Attributes:
        paths: absolute or relative to the working folder.
        labels: (n,) int64, an index into the class names.
    """

    paths: list[str]
    labels: np.ndarray

    def chosen(self, indices: np.ndarray) -> Files:
        """Those with the given indices."""
        return Files([self.paths[index] for index in indices], self.labels[indices])


def split_folders(root: Path) -> dict[str, Path]:
    """The folder of each split: {"train", and "validation" or "test" or both}, or {"all"}.

    Split folders are recognised directly below `root` only, and only if there is a test or a
    validation folder beside train: a class may well be called train (CIFAR-100 has one).

    Raises:
        OptionError: if `root` is no folder or has no training images.
    """
    if not root.is_dir():
        raise OptionError("root", root, "is no folder", "/path/to/images")
    roles: dict[str, Path] = {}
    for folder in subfolders(root):
        role = ROLES.get(folder.name.lower())
        if role in roles:
            both = f"{roles[role].name} and {folder.name}"
            raise OptionError("root", root, f"has two folders for one split: {both}")
        if role:
            roles[role] = folder
    if len(roles) > 1 and "train" in roles:
        return {role: roles[role] for role in ("train", "validation", "test") if role in roles}
    names = [folder.name for folder in subfolders(root)]
    if roles and len(roles) == len(names):  # nothing but folders named as splits
        if "train" not in roles:
            rule = f"has {' and '.join(names)}, but no train folder beside"
            raise OptionError("root", root, rule)
        return {"all": roles["train"]}
    return {"all": root}


def class_names(folder: Path) -> list[str]:
    """The classes: names of the folders in it, sorted.

    Raises:
        OptionError: if there are fewer than two.
    """
    names = [path.name for path in subfolders(folder)]
    if len(names) < 2:
        rule = f"needs two class folders at least in {folder}, which has {len(names)}"
        raise OptionError("root", folder, rule)
    return names


def labelled_files(folder: Path, names: list[str]) -> Files:
    """All images below the class folders of `folder`, sorted by class and path.

    Nested folders count; names that begin with a dot do not.

    Raises:
        OptionError: if the folder has other classes than `names`, or a class has no image.
    """
    found = {path.name for path in subfolders(folder)}
    unknown = sorted(found - set(names))
    if unknown:
        rule = f"has classes in {folder} that are not in train: {', '.join(unknown)}"
        raise OptionError("root", folder.parent, rule)
    images = [image_files(folder / name) if name in found else [] for name in names]
    empty = [name for name, paths in zip(names, images, strict=True) if not paths]
    if empty:
        rule = f"has no image in {folder} for {len(empty)} of {len(names)} classes: "
        raise OptionError("root", folder.parent, rule + ", ".join(empty))
    counts = [len(paths) for paths in images]
    labels = np.repeat(np.arange(len(names), dtype=np.int64), counts)
    return Files([path for paths in images for path in paths], labels)


def digest(folders: dict[str, Path], files: dict[str, Files]) -> str:
    """Twelve hexadecimal digits that stand for the classes, and for the names and sizes of all files.

    They do not depend on where the folders lie. No file is opened: one whose content was changed, but
    not its size, is taken for the same.

    Args:
        folders: of each split, with a folder for each class.
        files: all images of each split.
    """
    content = hashlib.sha256()
    for split, folder in sorted(folders.items()):
        begin = len(os.fsencode(folder / "x")) - 1
        content.update(f"{split}\0".encode())
        for path in files[split].paths:
            content.update(b"%s\0%d\0" % (os.fsencode(path)[begin:], _size(path)))
    return content.hexdigest()[:12]


def _size(path: str) -> int:
    """Bytes in a file; -1 if there is none, which the check of the images reports."""
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def image_files(folder: Path) -> list[str]:
    """All images in a folder and the folders in it, sorted; links are followed."""
    paths = []
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += [
            os.path.join(place, name)
            for name in files
            if name.lower().endswith(IMG_EXTENSIONS) and not name.startswith(".")
        ]
    return sorted(paths)


def subfolders(folder: Path) -> list[Path]:
    """The folders directly in a folder, sorted by name, without hidden ones."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
