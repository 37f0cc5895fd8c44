"""Street View House Numbers, cropped digits (Netzer et al. 2011): images of 32x32 pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.io
import torch
import torchvision

from densenet_cli.data.download import PublishedFile, PublishedSet
from densenet_cli.data.in_memory import Labelled
from densenet_cli.data.published_data import PublishedData
from densenet_cli.data.splits import hold_out_per_class
from densenet_cli.options import OptionError, UserError, choice, switch


class Svhn(PublishedData):
    """73,257 training, 531,131 extra training and 26,032 test images in 10 classes.

    With the extra images this takes 1.9 GB of memory in each process, twice that while reading.
    Augmentation shifts images by at most 4 pixels and mirrors none: they are digits.
    The files `train_32x32.mat`, `test_32x32.mat` and `extra_32x32.mat` are in the folder `root`.

    Args:
        extra: whether to train on the extra images too, as the DenseNet paper does.
        hold_out: "proportional": the held-out images are drawn from all training images, as many of a
            class as it has a share of these. "per_class": equally many of each class, two thirds of
            them from the training images proper, which are harder, one third from the extra ones: 400
            and 200 for validation=6000, as in the code of Huang et al. 2016 (svhn-dataset.lua).
        others: as PublishedData. The paper holds out 6,000 images, divides by 255 only ("scale") and
            does not augment.

    Raises: as PublishedData.
    """

    name = "svhn"
    flips = False
    parts = torchvision.datasets.SVHN.split_list

    def __init__(
        self,
        root: str,
        batch_size: int = 64,
        num_workers: int | None = None,
        augment: bool = False,
        validation: int = 6000,
        seed: int = 0,
        normalise: str = "scale",
        drop_last: bool = False,
        border: str = "zeros",
        extra: bool = True,
        hold_out: str = "proportional",
        download: bool = True,
        verify: bool = True,
        randaugment: int | None = None,
    ) -> None:
        super().__init__(
            root,
            batch_size,
            num_workers,
            augment,
            validation,
            seed,
            normalise,
            drop_last,
            border,
            download,
            verify,
            randaugment,
        )
        self.extra = switch("extra", extra)
        self.hold_out = choice("hold_out", hold_out, ("proportional", "per_class"))
        self._of_each_class()

    def arrays(self) -> tuple[Labelled, Labelled, list[str]]:
        """All images, (n, 32, 32, 3); downloads the files that are missing."""
        self.make_available()
        *training, test = [self.root / file.path for file in self.published_set().files]
        self._proper = _shape(training[0])[3]
        return read_mats(training), read_mats([test]), [str(digit) for digit in range(10)]

    def held_out(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the images to train on, and of the held-out ones, as `hold_out` says."""
        if self.hold_out == "proportional" or not self.validation:
            return super().held_out(labels)
        parts = {"the training images": self._proper}
        if self.extra:
            parts["the extra images"] = len(labels) - self._proper
        return hold_out_per_class(labels, parts, dict(zip(parts, self._of_each_class(), strict=True)))

    def _of_each_class(self) -> list[int]:
        """The held-out images of each class: from the training images, and from the extra ones."""
        weights, classes = [2, 1] if self.extra else [1], 10
        unit = classes * sum(weights)
        if self.hold_out == "per_class" and self.validation % unit:
            rule = f"must be a multiple of {unit} with data.hold_out=per_class"
            raise OptionError("validation", self.validation, rule, 6000 if self.extra else 4000)
        return [self.validation // unit * weight for weight in weights]

    def published_set(self) -> PublishedSet:
        """The official files; that of the test images is last."""
        parts = ["train", "extra", "test"] if self.extra else ["train", "test"]
        files = [PublishedFile(name, md5, url) for url, name, md5 in map(self._part, parts)]
        return PublishedSet(self.name, files)

    def _part(self, split: str) -> list[str]:
        return self.parts[split]


def read_mats(paths: list[Path]) -> Labelled:
    """The images of all files, in order. In the files the digit 0 has the label 10.

    Raises:
        UserError: if a file is broken or contains something else.
    """
    total = sum(_shape(path)[3] for path in paths)
    images = torch.empty(total, 32, 32, 3, dtype=torch.uint8)
    labels = []
    begin = 0
    for path in paths:
        pixels, numbers = _read(path)
        view = torch.from_numpy(pixels).permute(3, 0, 1, 2)
        images[begin : begin + len(view)].copy_(view)
        labels.append(torch.from_numpy(numbers % 10))
        begin += len(view)
    return Labelled(images, torch.cat(labels))


def _shape(path: Path) -> tuple[int, ...]:
    """Shape (32, 32, 3, n) of the images in a file, without reading them."""
    try:
        shapes = {name: shape for name, shape, _ in scipy.io.whosmat(path)}
    except Exception as error:  # scipy raises ValueError, TypeError, zlib.error, ...
        raise _broken(path, str(error)) from error
    shape = shapes.get("X", ())
    if len(shape) != 4 or shape[:3] != (32, 32, 3) or not shape[3]:
        raise _broken(path, "X is not 32 x 32 x 3 x n")
    return shape


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (32, 32, 3, n) uint8 and labels (n,) int64 from 1 to 10."""
    try:
        content = scipy.io.loadmat(path)
        pixels, labels = content["X"], content["y"].astype(np.int64).ravel()
    except Exception as error:
        raise _broken(path, str(error)) from error
    if pixels.dtype != np.uint8 or labels.shape != pixels.shape[3:]:
        raise _broken(path, "X is not of type uint8, or y does not have one label per image")
    if labels.min() < 0 or labels.max() > 10:
        raise _broken(path, "labels must be from 1 to 10")
    return pixels, labels


def _broken(path: Path, why: str) -> UserError:
    return UserError(f"{path} cannot be read ({why}); download the file again")
