"""Data sets of small images that are held in memory as bytes."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from densenet_cli.data.augmentation import crop, flip_half, normalised
from densenet_cli.data.colour_statistics import UNCHANGED, Statistics, statistics_of, value_counts
from densenet_cli.data.epoch_order import Tickets
from densenet_cli.data.image_data import Batch, Contents, ImageData, Split
from densenet_cli.data.splits import hold_out

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Labelled:
    """Images (N, H, W, 3) uint8, as one stores pictures, and their labels (N,) int64."""

    images: Tensor
    labels: Tensor


class InMemorySplit(Split):
    """Some of the images of a set, not copied.

    Args:
        source: the images to choose from.
        chosen: indices of those in the split, (n,).
        augment: whether batches carry the draws that say how to augment them.
    """

    def __init__(self, source: Labelled, chosen: np.ndarray, augment: bool = False) -> None:
        self.source, self.chosen, self.augment = source, torch.from_numpy(chosen), augment

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, tickets: Tickets) -> Batch:
        rows, draws = torch.from_numpy(tickets).unbind(1)
        indices = self.chosen[rows]
        batch = self.source.images.index_select(0, indices), self.source.labels[indices]
        return (*batch, draws.clone()) if self.augment else batch


class InMemoryData(ImageData):
    """Small images of one size. Augmentation: mirrored half the time, then shifted at random.

    Class attributes:
        flips: whether a mirrored image still shows its class.
        padding: how far images are shifted at most, in pixels.
        published: mean and std of all training images as others state them; None if unknown.
    """

    flips = True
    padding = 4
    published: Statistics | None = None
    normalisations = ("mean_std", "scale")

    def arrays(self) -> tuple[Labelled, Labelled, list[str]]:
        """All training images, all test images, and the class names."""
        raise NotImplementedError

    def read(self) -> Contents:
        """Read the images, hold some out and measure those that are left."""
        train, test, class_names = self.arrays()
        training, held_out = hold_out(train.labels.numpy(), self.validation)
        if self.normalise == "scale":
            statistics = UNCHANGED
        else:
            statistics = measured(train.images, training)
            self._compare_with_published(statistics, len(training))
        height, width = train.images.shape[1:3]
        return Contents(
            class_names,
            (height, width),
            statistics,
            InMemorySplit(train, training, self.augment),
            InMemorySplit(train, held_out) if self.validation else None,
            InMemorySplit(test, np.arange(len(test.images))),
        )

    def augmented(self, images: Tensor, draws: Tensor) -> Tensor:
        """Mirror half of the images, pad with the mean colour, crop at a random place."""
        if self.flips:
            images = flip_half(images, draws)  # while they are bytes
        framed = normalised(images, self.scale_on(images.device), self.padding)
        return crop(framed, draws, self.padding)

    def _compare_with_published(self, statistics: Statistics, images: int) -> None:
        if self.published is None:
            return
        tolerance = images**-0.5  # several standard errors of a mean over so many images
        for key, expected in self.published.items():
            found = statistics[key]
            if max(abs(a - b) for a, b in zip(found, expected, strict=True)) > tolerance:
                log.warning(
                    "%s: %s of the training images is %s, but the published data set has %s: "
                    "these may be other images",
                    self.name, key, _rounded(found), _rounded(expected),
                )  # fmt: skip


def measured(images: Tensor, chosen: np.ndarray) -> Statistics:
    """Mean and std of the chosen ones of the images (N, H, W, 3) uint8, few at a time."""
    counts = torch.zeros(3, 256, dtype=torch.int64)
    for chunk in torch.from_numpy(chosen).split(5000):
        counts += value_counts(images.index_select(0, chunk))
    return statistics_of(counts)


def _rounded(numbers: list[float]) -> list[float]:
    return [round(number, 4) for number in numbers]
