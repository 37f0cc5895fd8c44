"""Handwritten digits that scikit-learn ships: a data set that needs no download."""

from __future__ import annotations

from importlib.metadata import distribution

import numpy as np
import torch

from densenet_cli.data.in_memory import InMemoryData, Labelled
from densenet_cli.data.splits import stratified


class Digits(InMemoryData):
    """1,797 grey images of 8x8 pixels in 10 classes, repeated to three channels.

    Alpaydin and Kaynak 1998, UCI "Optical Recognition of Handwritten Digits", the test part.
    scikit-learn names no split, so 360 images, in equal shares of all classes, are the test images;
    they are always the same. Digits are shifted by at most one pixel and not mirrored: a mirrored 2
    is no digit.

    Args and Raises: as InMemoryData.
    """

    name = "digits"
    flips = False
    padding = 1
    test_images = 360

    def arrays(self) -> tuple[Labelled, Labelled, list[str]]:
        """1,437 training images and 360 test images, (n, 8, 8, 3)."""
        pixels, target = read_digits()
        grey = torch.from_numpy(pixels).mul(255 / 16).round().byte()  # from 0..16
        images = grey[..., None].repeat(1, 1, 1, 3)
        labels = torch.from_numpy(target)
        training, test = stratified(target, self.test_images)
        class_names = [str(digit) for digit in range(10)]
        return (
            Labelled(images[training], labels[training]),
            Labelled(images[test], labels[test]),
            class_names,
        )


def read_digits() -> tuple[np.ndarray, np.ndarray]:
    """Pixels (1797, 8, 8) float64 from 0 to 16, and labels (1797,) int64.

    They are what sklearn.datasets.load_digits returns, read from the same file. load_digits would
    import all of scikit-learn first, which takes 0.3 s or more in every run.
    """
    file = distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")
    table = np.loadtxt(str(file), delimiter=",")
    return table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(np.int64)
