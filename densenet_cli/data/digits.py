"""Handwritten digits that come with scikit-learn: a data set that needs no download."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import torch

from densenet_cli.data.in_memory import InMemoryData, Labelled
from densenet_cli.data.splits import stratified


class Digits(InMemoryData):
    """1,797 grey images of 8x8 pixels in 10 classes, repeated to three channels.

    Alpaydin and Kaynak 1998, UCI "Optical Recognition of Handwritten Digits", the test part.
    scikit-learn names no split, so 360 images, of all classes alike, are set aside as test images;
    which ones never changes. Digits are shifted by at most one pixel and not mirrored: a mirrored
    2 is no digit.

    Args and Raises: as ImageData.
    """

    name = "digits"
    flips = False
    padding = 1
    test_images = 360

    def __init__(
        self,
        batch_size: int,
        num_workers: int | None = None,
        augment: bool = True,
        validation: int = 0,
        seed: int = 0,
        normalise: str = "mean_std",
    ) -> None:
        super().__init__(batch_size, num_workers, augment, validation, seed, normalise)

    def arrays(self) -> tuple[Labelled, Labelled, list[str]]:
        """1,437 training images and 360 test images, (n, 8, 8, 3)."""
        pixels, target = read_digits()
        grey = torch.from_numpy(pixels).mul(255 / 16).round().byte()  # from 0..16
        images = grey[..., None].repeat(1, 1, 1, 3)
        labels = torch.from_numpy(target)
        training, test = stratified(target, self.test_images)
        names = [str(digit) for digit in range(10)]
        return (
            Labelled(images[training], labels[training]),
            Labelled(images[test], labels[test]),
            names,
        )

    def digest(self) -> str:
        """That of scikit-learn's file; see ImageData."""
        return hashlib.sha256(_file().read_bytes()).hexdigest()[:12]


def _file() -> Path:
    package = importlib.util.find_spec("sklearn")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"


def read_digits() -> tuple[np.ndarray, np.ndarray]:
    """Pixels (1797, 8, 8) float64 from 0 to 16, and labels (1797,) int64.

    What sklearn.datasets.load_digits reads, without a second for importing scikit-learn.
    """
    table = np.loadtxt(_file(), delimiter=",")
    return table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(np.int64)
