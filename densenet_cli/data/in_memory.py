"""Data sets of small images that are held in memory, one byte per colour value or grey level."""

from __future__ import annotations

import functools
import hashlib
import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from densenet_cli.data import pixel_statistics, resident
from densenet_cli.data.augmentation import Scale, crop, flip_half, framed
from densenet_cli.data.colour_statistics import (
    Statistics,
    statistics_of,
    std_of_all,
    unchanged,
    value_counts,
)
from densenet_cli.data.epoch_order import Tickets
from densenet_cli.data.image_data import Batch, Contents, ImageData, Split
from densenet_cli.data.pixel_statistics import PixelStatistics, Whitening
from densenet_cli.data.resident import ResidentSplit
from densenet_cli.data.splits import hold_out
from densenet_cli.options import OptionError, UserError, choice

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Labelled:
    """Images (N, H, W, C) uint8, C = 3 or 1, and their labels.

    Labels are (N,) int64, counted from 0; or (N, classes) float32 of 0, 1 and NaN (not known), if the
    data set says by `several_labels` that an image can have several.
    """

    images: Tensor
    labels: Tensor


class InMemorySplit(Split):
    """Some of the images of a set; the pixels are not copied.

    Args:
        source: the images to choose from.
        chosen: indices of those in the split, (n,).
        augment: whether batches carry the draws that decide how images are augmented.
    """

    def __init__(self, source: Labelled, chosen: np.ndarray, augment: bool = False) -> None:
        self.source, self.chosen, self.augment = source, torch.from_numpy(chosen), augment
        self.labels = source.labels[self.chosen]

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, tickets: Tickets) -> Batch:
        rows, draws = torch.from_numpy(tickets).unbind(1)
        indices = self.chosen[rows]
        batch = self.source.images.index_select(0, indices), self.source.labels[indices]
        return (*batch, draws.clone()) if self.augment else batch


class InMemoryData(ImageData):
    """Small images of one size. Augmentation: half of the images mirrored, then all shifted at random.

    Args:
        border: what a shift brings in: "zeros", which are the mean colour after normalisation, or
            "reflect": the image mirrored at its outermost pixels, which are not repeated (as torch's
            nn.SpatialReflectionPadding in the code of Zagoruyko and Komodakis 2016, train.lua).
        others: as ImageData.

    A data set of your own is a subclass with a `name` and `arrays()`. Name the class as `_target_` in
    FOLDER/data/mine.yaml, below `defaults: [digits, _self_]` for the common options, and type
    `densenet-run --config-dir=FOLDER data=mine`.

    Class attributes:
        flips: whether a mirrored image still belongs to its class.
        padding: the largest shift, in pixels.
        published: the published mean and std of all training images; None if there are none.
    """

    flips = True
    padding = 4
    published: Statistics | None = None
    normalisations = ("mean_std", "scale", *pixel_statistics.KINDS)
    _resident: ResidentSplit | None = None
    _pixel_statistics: PixelStatistics | None = None

    def __init__(
        self,
        batch_size: int = 64,
        num_workers: int | None = None,
        augment: bool = True,
        validation: int = 0,
        seed: int = 0,
        normalise: str = "mean_std",
        drop_last: bool = False,
        border: str = "zeros",
        randaugment: int | None = None,
    ) -> None:
        super().__init__(
            batch_size, num_workers, augment, validation, seed, normalise, drop_last, randaugment
        )
        self.border = choice("border", border, ("zeros", "reflect"))

    def arrays(self) -> tuple[Labelled, Labelled, list[str]]:
        """All training images, all test images, and the class names, that of label 0 first."""
        raise NotImplementedError

    @functools.cached_property
    def _checked_arrays(self) -> tuple[Labelled, Labelled, list[str]]:
        train, test, class_names = self.arrays()
        for split, part in (("training", train), ("test", test)):
            name = f"data set {self.name}: {split}"
            _check_images(name, part.images)
            if self.several_labels:
                _check_several_labels(name, part, len(class_names))
            else:
                _check_labels(name, part, len(class_names))
        sizes = ["{1} x {2} pixels, {3} channels".format(*part.images.shape) for part in (train, test)]
        if sizes[0] != sizes[1]:
            raise UserError(f"data set {self.name}: test images: must be {sizes[0]}; are {sizes[1]}")
        return train, test, class_names

    def read(self) -> Contents:
        """Read the images, hold out the validation images, and measure the others."""
        train, test, class_names = self._checked_arrays
        height, width, channels = train.images.shape[1:]
        if self.border == "reflect" and self.padding >= min(height, width):
            rule = f"needs images larger than their largest shift, {self.padding} pixels"
            raise OptionError("border", self.border, rule, "zeros")
        training, held_out = self.held_out(train.labels.numpy())
        if self.normalise == "scale":
            statistics = unchanged(channels)
        else:
            statistics = self._measured(train.images, training)
        return Contents(
            class_names,
            (height, width),
            statistics,
            InMemorySplit(train, training, self.augment),
            InMemorySplit(train, held_out) if self.validation else None,
            InMemorySplit(test, np.arange(len(test.images))),
            channels,
        )

    def held_out(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the images to train on, and of the held-out ones; see `splits.hold_out`."""
        return hold_out(labels, self.validation)

    def digest(self) -> str | None:
        """Of all pixels, labels and class names: 0.2 s for 60,000 images of 32x32 pixels."""
        train, test, class_names = self._checked_arrays
        content = hashlib.sha256("\0".join(class_names).encode())
        for tensor in (train.images, train.labels, test.images, test.labels):
            content.update(str(tuple(tensor.shape)).encode())
            content.update(tensor.contiguous().numpy().data)
        return content.hexdigest()[:12]

    def training_split(self, split: Split) -> Split:
        """The images of the split on the GPU that trains, if they fit and RandAugment is off."""
        is_ours = isinstance(split, InMemorySplit) and self.rand_augment is None
        if self.trainer is None or not is_ours:
            return super().training_split(split)
        assert isinstance(split, InMemorySplit)
        device, source = self.trainer.strategy.root_device, split.source
        if self._resident is None and resident.fit(source.images, device):
            self._resident = ResidentSplit(
                source.images, source.labels, split.chosen, split.augment, device
            )
        return self._resident or split

    def teardown(self, stage: str) -> None:
        """Free the memory of resident images."""
        self._resident = None

    def complete(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """As for all data sets; a training batch of resident images is looked up first."""
        if self._resident is not None and batch[0].ndim == 1:
            batch = self._resident.batch(*batch)
        return super().complete(batch)

    def augmented(self, images: Tensor, draws: Tensor) -> Tensor:
        """Normalise images, mirror half of them, add the border, crop at a random place."""
        scale, by_pixels = self.scale_on(images.device), self.normalise in pixel_statistics.KINDS
        if self.flips and not by_pixels:
            images = flip_half(images, draws)  # the same as later, and faster while they are bytes
        if isinstance(scale, Scale) and self.border == "zeros" and not by_pixels:
            return crop(scale.normalised(images, self.padding), draws, self.padding)
        numbers = scale.normalised(images)
        if self.flips and by_pixels:
            numbers = flip_half(numbers, draws)
        return crop(framed(numbers, self.padding, self.border), draws, self.padding)

    @property
    def pixel_statistics(self) -> PixelStatistics | None:
        """What normalise= by pixels needs, else None; measured now unless a checkpoint gave it.

        Several processes get what the first one has measured.
        """
        if self._pixel_statistics is None and self.normalise in pixel_statistics.KINDS:
            rank, processes = self._rank_and_processes()
            own = self._measured_pixels() if rank == 0 else None
            if self.trainer is not None and processes > 1:
                own = self.trainer.strategy.broadcast(own)
            self._pixel_statistics = own
        return self._pixel_statistics

    @pixel_statistics.setter
    def pixel_statistics(self, given: PixelStatistics | None) -> None:
        self._pixel_statistics = given
        self._scales.clear()

    def normaliser(self, device: torch.device, width: int) -> Scale | Whitening:
        """What normalises images, with its constants on a device."""
        own = self.pixel_statistics
        return super().normaliser(device, width) if own is None else own.normaliser(device)

    def train_dataloader(self) -> DataLoader:
        """All batches of an epoch in random order; what the normalisation needs is measured before."""
        self._read_contents()
        self.pixel_statistics  # noqa: B018 -- all processes measure it here, at the same time
        return super().train_dataloader()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold to use its network: the statistics of pixels."""
        own = self.pixel_statistics
        return {} if own is None else {pixel_statistics.SAVED: own.state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue with the statistics of a run that is resumed, to the last bit."""
        self.pixel_statistics = pixel_statistics.saved({"data": state_dict})

    def _measured_pixels(self) -> PixelStatistics:
        split = self._read_contents().train
        assert isinstance(split, InMemorySplit)
        if self.normalise == "zca":
            log.info("measuring how to whiten %d training images", len(split))
        images, chosen = split.source.images, split.chosen.numpy()
        return pixel_statistics.measured(self.normalise, images, chosen, self.statistics["std"][0])

    def _measured(self, images: Tensor, chosen: np.ndarray) -> Statistics:
        """Mean and std of the colours of the chosen images; std is the one that is divided by."""
        counts = colour_counts(images, chosen)
        statistics = statistics_of(counts)
        self._compare_with_published(statistics, len(chosen))
        divisors = {"pixel_mean": 1.0, "pixel_mean_std": std_of_all(counts)}
        if self.normalise in divisors:
            statistics["std"] = [divisors[self.normalise]] * len(counts)
        return statistics

    def _compare_with_published(self, statistics: Statistics, images: int) -> None:
        if self.published is None:
            return
        tolerance = images**-0.5  # several standard errors of a mean over this many images
        for key, expected in self.published.items():
            found = statistics[key]
            if max(abs(a - b) for a, b in zip(found, expected, strict=True)) > tolerance:
                log.warning(
                    "%s: %s of the training images is %s, but the published data set has %s: "
                    "these may be other images",
                    self.name, key, _rounded(found), _rounded(expected),
                )  # fmt: skip


def colour_counts(images: Tensor, chosen: np.ndarray) -> Tensor:
    """The colours of the chosen ones of the images (N, H, W, C) uint8; see `value_counts`."""
    counts = torch.zeros(images.shape[3], 256, dtype=torch.int64)
    for chunk in torch.from_numpy(chosen).split(5000):
        counts += value_counts(images.index_select(0, chunk))
    return counts


def _check_images(name: str, images: Tensor) -> None:
    """Raise UserError if a split's images are not what `Labelled` promises."""
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
        rule = "must be a tensor of uint8, n x height x width x 3, or x 1 for grey levels"
        raise UserError(f"{name} images: {rule}; are {_shape(images)} of {images.dtype}")
    if not len(images):
        raise UserError(f"{name} images: there are none")


def _check_labels(name: str, part: Labelled, classes: int) -> None:
    """Raise UserError if the labels of a split, one for each image, are not as `Labelled` promises."""
    labels = part.labels
    if labels.dtype != torch.int64 or labels.shape != part.images.shape[:1]:
        rule = "must be a tensor with one label of int64 for each image"
        raise UserError(f"{name} labels: {rule}; they are {_shape(labels)} of {labels.dtype}")
    for label in (int(labels.min()), int(labels.max())):
        if not 0 <= label < classes:
            rule = f"must be from 0 to {classes - 1}, since there are {classes} class names"
            raise UserError(f"{name} labels: {rule}; one is {label}")


def _check_several_labels(name: str, part: Labelled, classes: int) -> None:
    """Raise UserError if labels, several for each image, are not what `Labelled` promises."""
    labels = part.labels
    if labels.dtype != torch.float32 or labels.shape != (len(part.images), classes):
        rule = f"must be a tensor of float32, {len(part.images)} x {classes}: images x class names"
        raise UserError(f"{name} labels: {rule}; they are {_shape(labels)} of {labels.dtype}")
    if not ((labels == 0) | (labels == 1) | labels.isnan()).all():
        raise UserError(f"{name} labels: must be 0, 1, or NaN where it is not known")


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape))


def _rounded(numbers: list[float]) -> list[float]:
    return [round(number, 4) for number in numbers]
