"""The images of one split, read a batch at a time, and splits that change the batches of another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from densenet_cli.data.epoch_order import Tickets

Batch = tuple[Tensor, ...]
"""Images (n, H, W, C) uint8, labels and, in augmented training, draws (n,) int64.

Labels are (n,) int64, or (n, classes) float32 of 0, 1 and NaN if an image can have several.

The training batches of resident images are indices (n,) and draws (n,) only; see `resident`.
"""


class Empty(Protocol):
    """What makes the memory for the images of a batch: torch.empty, or a place in shared memory."""

    def __call__(self, shape: Sequence[int], /, *, dtype: torch.dtype) -> Tensor:
        """A contiguous tensor with any values."""


class Split:
    """The images of one split, read a batch at a time.

    Attributes:
        labels: of all its images, in order, as batches have them.
        crops: of each image in a batch; with several, images are (n, crops, H, W, C).
        empty: makes the memory for the images of the next batch; a split need not use it.
    """

    labels: Tensor
    crops = 1
    empty: Empty = torch.empty

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, tickets: Tickets) -> Batch:
        raise NotImplementedError


class ChangedSplit(Split):
    """The images of another split, whose batches are changed.

    Attributes:
        unread: of the other split, see PhotoSplit.
    """

    def __init__(self, split: Split) -> None:
        self.split, self.labels, self.crops = split, split.labels, split.crops
        self.unread: list[Any] = getattr(split, "unread", [])

    def __len__(self) -> int:
        return len(self.split)


class RandAugmentedSplit(ChangedSplit):
    """A split of training images, whose batches come with draws, augmented one by one.

    Args:
        split: the images.
        augment: image (H, W, C) uint8 and its draw -> image.
    """

    def __init__(self, split: Split, augment: Callable[[Tensor, int], Tensor]) -> None:
        super().__init__(split)
        self.augment = augment

    def __getitem__(self, tickets: Tickets) -> Batch:
        images, labels, draws = self.split[tickets]
        result = self.empty(images.shape, dtype=images.dtype)
        for row, draw in enumerate(draws.tolist()):
            result[row] = self.augment(images[row], draw)
        return result, labels, draws


class FinishedSplit(ChangedSplit):
    """The batches of a split as `ImageData.finished` returns them."""

    def __init__(self, split: Split, finished: Callable[[Batch, Empty], Batch]) -> None:
        super().__init__(split)
        self.finished = finished

    def __getitem__(self, tickets: Tickets) -> Batch:
        return self.finished(self.split[tickets], self.empty)
