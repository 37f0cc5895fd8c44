"""Which files of a folder belong to which split and class."""

from __future__ import annotations

import hashlib
import logging
import os
import unicodedata
from collections import Counter
from collections.abc import Container, Mapping
from pathlib import Path

import numpy as np

from densenet_cli.data.file_list import Paths, stamps
from densenet_cli.data.image_files import (
    BESIDE,
    OUTSIDE,
    SEARCHED,
    LeftOut,
    entries,
    image_files,
    is_folder,
    is_image,
    parents,
    place,
)
from densenet_cli.data.photo_split import Files
from densenet_cli.options import OptionError

log = logging.getLogger(__name__)

ROLES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


def split_folders(root: Path, left_out: LeftOut | None = None) -> dict[str, Path]:
    """The folder of each split: {"train", and "validation" or "test" or both}, or {"all"}.

    Split folders are recognised only directly below `root`, and only if there is a test or validation
    folder beside train: a class may be called train (CIFAR-100 has one).

    Args:
        root: the folder.
        left_out: if there are split folders, everything else in `root` is added to it.

    Raises:
        OptionError: if `root` is not a folder or has no folder of training images.
        OSError: if it cannot be read.
    """
    if not root.is_dir():
        raise OptionError("root", root, "is not a folder", "/path/to/images")
    left_out = left_out or LeftOut()
    roles: dict[str, Path] = {}
    names = [folder.name for folder in subfolders(root)]
    for name in names:
        role = ROLES.get(name.lower())
        if role in roles:
            both = f"{roles[role].name} and {name}"
            raise OptionError("root", root, f"has two folders for one split: {both}")
        if role:
            roles[role] = root / name
    if len(roles) > 1 and "train" in roles:
        for folder in subfolders(root, left_out):
            if folder not in roles.values():
                left_out.add(BESIDE, folder.name)
        return {role: roles[role] for role in ("train", "validation", "test") if role in roles}
    if roles and len(roles) == len(names):  # all folders are named like splits
        if "train" not in roles:
            rule = f"has {' and '.join(names)}, but no folder train"
            raise OptionError("root", root, rule)
        subfolders(root, left_out)
        return {"all": roles["train"]}
    return {"all": root}


def class_names(folder: Path) -> list[str]:
    """The classes: the names of the folders in it, sorted.

    Raises:
        OptionError: if there are fewer than two.
        OSError: if the folder cannot be read.
    """
    names = [path.name for path in subfolders(folder)]
    if len(names) < 2:
        rule = f"needs two class folders or more in {folder}, which has {len(names)}"
        below = folder / names[0] if names else None  # perhaps the folder that was meant
        meant = below if below and len(subfolders(below)) > 1 else None
        raise OptionError("root", folder, rule, meant)
    alike = Counter(unicodedata.normalize("NFC", name).casefold() for name in names)
    for same in [key for key, count in alike.items() if count > 1]:
        both = [name for name in names if unicodedata.normalize("NFC", name).casefold() == same]
        log.warning("%s: %s are different classes with similar names", folder, " and ".join(both))
    return names


def labelled_splits(
    folders: Mapping[str, Path],
    names: list[str],
    left_out: LeftOut,
    wanted: Container[str] | None = None,
) -> dict[str, Files]:
    """All images of the class folders of each split, sorted by class and path.

    Folders within class folders are searched too. Whatever the links, a split never searches a folder
    twice, and a class never searches the folder of another class or split.

    Args:
        folders: of each split.
        names: of the classes.
        left_out: all other files in the folders are added to it.
        wanted: the splits to search; None: all.

    Raises:
        OptionError: if a folder has other classes than `names`, if two of its classes are the same
            folder, or if a class has no image.
        OSError: if a folder cannot be read.
    """
    searched = [split for split in folders if wanted is None or split in wanted]
    classes = {
        split: subfolders(folder, left_out if split in searched else None)
        for split, folder in folders.items()
    }
    tops = {place(folder) for folder in folders.values()}
    tops |= {place(path) for paths in classes.values() for path in paths}
    return {
        split: _labelled(folders[split], classes[split], names, left_out, set(tops))
        for split in searched
    }


def _labelled(
    folder: Path,
    classes: list[Path],
    names: list[str],
    left_out: LeftOut,
    searched: set[tuple[int, int]],
) -> Files:
    unknown = [path.name for path in classes if path.name not in names]
    if unknown:
        rule = f"has classes in {folder} that train does not have: {', '.join(unknown)}"
        raise OptionError("root", folder, rule)
    places: dict[tuple[int, int], str] = {}
    for path in classes:
        if (other := places.setdefault(place(path), path.name)) != path.name:
            rule = f"has two classes in {folder} that are the same folder: {other} and {path.name}"
            raise OptionError("root", folder, rule)
    found = {path.name: Paths(image_files(path, left_out, searched)) for path in classes}
    images = [found.get(name, Paths()) for name in names]
    empty = [name for name, paths in zip(names, images, strict=True) if not paths]
    if empty:
        rule = f"has no image in {folder} for {len(empty)} of {len(names)} classes: "
        besides = f" (left out: {left_out})" if str(left_out) else ""
        raise OptionError("root", folder, rule + ", ".join(empty) + besides)
    counts = [len(paths) for paths in images]
    labels = np.repeat(np.arange(len(names), dtype=np.int64), counts)
    paths = Paths.joined(images)
    return Files(paths, labels, stamps(paths))


def digest(folders: dict[str, Path], files: dict[str, Files]) -> str:
    """Twelve hexadecimal digits that identify the classes, and the names and sizes of all files.

    They do not depend on the location of the folders. No file is opened: a change of its content that
    keeps its size is not noticed.

    Args:
        folders: the folder of each split, which contains those of the classes.
        files: all images of each split.
    """
    content = hashlib.sha256()
    for split, folder in sorted(folders.items()):
        begin = len(os.fsencode(folder / "x")) - 1
        content.update(f"{split}\0".encode())
        paths, sizes = files[split].paths, files[split].stamps[:, 0].tolist()
        for index, size in enumerate(sizes):
            content.update(b"%s\0%d\0" % (paths.encoded(index)[begin:], size))
    return content.hexdigest()[:12]


def subfolders(folder: Path, left_out: LeftOut | None = None) -> list[Path]:
    """The folders directly in a folder, sorted by name, without hidden ones and those of the system.

    Links to the folder itself or to a parent of it are left out too: as classes they would contain all
    other classes.

    Args:
        folder: where to search.
        left_out: everything else in the folder is added to it.

    Raises:
        OptionError: if there is a dangling link, which may have been a class.
        OSError: if the folder cannot be read.
    """
    left_out = left_out or LeftOut()
    own_parents = parents(folder)
    kept = []
    for entry in entries(folder, left_out):
        if not is_folder(entry):
            if entry.is_symlink() and not os.path.exists(entry.path):
                rule = f"has a link that leads to nothing, {entry.path}; repair or delete it"
                raise OptionError("root", folder, rule)
            if is_image(entry, left_out):
                left_out.add(OUTSIDE, entry.path)
        elif place(entry.path) in own_parents:
            left_out.add(SEARCHED, entry.path)
        else:
            kept.append(Path(entry.path))
    return kept
