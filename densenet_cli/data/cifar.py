"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): 60,000 natural images of 32x32 pixels."""

from __future__ import annotations

import codecs
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision

from densenet_cli.data.download import PublishedFile, PublishedSet
from densenet_cli.data.in_memory import Labelled
from densenet_cli.data.published_data import PublishedData
from densenet_cli.options import UserError


class Cifar10(PublishedData):
    """50,000 training and 10,000 test images in 10 classes.

    The files are below `root` in the folder `cifar-10-batches-py`.

    Args and Raises: as PublishedData.
    """

    name = "cifar10"
    release: type[torchvision.datasets.CIFAR10] = torchvision.datasets.CIFAR10
    label_key = "labels"
    classes = 10
    # of all training images; liuzhuang13/DenseNet: 125.3 123.0 113.9 and 63.0 62.1 66.7 of 255
    published = {  # noqa: RUF012
        "mean": [0.49140, 0.48216, 0.44653],
        "std": [0.24703, 0.24349, 0.26159],
    }

    def arrays(self) -> tuple[Labelled, Labelled, list[str]]:
        """All images, (n, 32, 32, 3); downloads the files that are missing."""
        self.make_available()
        folder = self.root / self.release.base_folder
        train = [folder / file for file, _ in self.release.train_list]
        test = [folder / file for file, _ in self.release.test_list]
        names = self._class_names(folder / self.release.meta["filename"])
        return self._read_images(train), self._read_images(test), names

    def published_set(self) -> PublishedSet:
        """The official files, with the checksums that torchvision knows."""
        release = self.release
        files = [*release.train_list, *release.test_list]
        files.append([release.meta["filename"], release.meta["md5"]])
        return PublishedSet(
            self.name,
            [PublishedFile(f"{release.base_folder}/{path}", md5) for path, md5 in files],
            PublishedFile(release.filename, release.tgz_md5, release.url),
        )

    def _class_names(self, path: Path) -> list[str]:
        names = read_pickle(path).get(self.release.meta["key"])
        if not isinstance(names, list) or len(names) != self.classes:
            raise UserError(f"{path} does not name the {self.classes} classes; download it again")
        return [str(name) for name in names]

    def _read_images(self, paths: list[Path]) -> Labelled:
        parts, labels = [], []
        for path in paths:
            content = read_pickle(path)
            planes = np.asarray(content.get("data"))
            labels.append(np.asarray(content.get(self.label_key)))
            self._check(path, planes, labels[-1])
            parts.append(planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        images = np.empty((sum(map(len, parts)), 32, 32, 3), np.uint8)
        np.concatenate(parts, out=images)
        return Labelled(torch.from_numpy(images), torch.from_numpy(np.concatenate(labels)).long())

    def _check(self, path: Path, images: np.ndarray, labels: np.ndarray) -> None:
        rows = images.shape[:1]
        if images.dtype != np.uint8 or images.shape != (*rows, 3072) or not rows[0]:
            raise UserError(f"{path}: `data` must have rows of 3,072 bytes; download the file again")
        if labels.dtype.kind not in "iu" or labels.shape != rows:
            raise UserError(f"{path}: `{self.label_key}` must have one whole number per image")
        if labels.min() < 0 or labels.max() >= self.classes:
            raise UserError(f"{path}: labels must be from 0 to {self.classes - 1}")


class Cifar100(Cifar10):
    """50,000 training and 10,000 test images in 100 classes (the fine labels).

    The folder is called `cifar-100-python`. Args and Raises: as PublishedData.
    """

    name = "cifar100"
    release = torchvision.datasets.CIFAR100
    label_key = "fine_labels"
    classes = 100
    published = {  # noqa: RUF012
        "mean": [0.50708, 0.48655, 0.44092],
        "std": [0.26733, 0.25644, 0.27615],
    }


def read_pickle(path: Path) -> dict[str, Any]:
    """The dictionary of arrays, lists, numbers and strings in a file of the release.

    Raises:
        UserError: if the file is broken or contains anything else.
    """
    try:
        with path.open("rb") as stream:
            content = ArrayUnpickler(stream, encoding="latin1").load()
    except Exception as error:  # a broken pickle can raise nearly anything
        raise UserError(f"{path} cannot be read ({error}); download the file again") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} must contain a dictionary; download the file again")
    return content


class ArrayUnpickler(pickle.Unpickler):
    """Builds only plain values and NumPy arrays: an unverified file must not run code."""

    constructors = {  # noqa: RUF012
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("multiarray", "scalar"): np.int64(0).__reduce__()[0],
        ("numeric", "_frombuffer"): np.empty(1).__reduce_ex__(5)[0],
        ("_codecs", "encode"): codecs.encode,
    }

    def find_class(self, module: str, name: str) -> Any:
        """The constructor of this name. Raises UnpicklingError if it is not listed above."""
        for package in ("numpy.core.", "numpy._core."):  # NumPy 1 and 2
            module = module.removeprefix(package)
        if (module, name) not in self.constructors:
            raise pickle.UnpicklingError(f"it contains {module}.{name}, which is not data")
        return self.constructors[module, name]
