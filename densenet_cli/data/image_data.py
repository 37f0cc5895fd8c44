"""What all data sets share: options, loaders, held-out images, order of images, normalisation."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from densenet_cli.data.augmentation import Scale
from densenet_cli.data.colour_statistics import Statistics
from densenet_cli.data.epoch_order import EpochOrder, EvaluationOrder
from densenet_cli.data.loader import LazyLoader, are_forked
from densenet_cli.data.pixel_statistics import Whitening
from densenet_cli.data.random_operations import RandAugment
from densenet_cli.data.skipped import Skipped
from densenet_cli.data.split import Batch, Empty, FinishedSplit, RandAugmentedSplit, Split
from densenet_cli.options import OptionError, choice, switch, whole_number


@dataclass(frozen=True)
class Contents:
    """The content of a data set, known once it was read.

    Attributes:
        class_names: label 0 first.
        image_size: height and width of the network's input, in pixels.
        statistics: "mean" and "std" of each channel for normalisation, on a scale of 0..1; of a
            normalisation by pixels only a summary.
        train, validation, test: the splits; validation is None if nothing is held out.
        channels: 3: red, green and blue; 1: grey levels.
    """

    class_names: list[str]
    image_size: tuple[int, int]
    statistics: Statistics
    train: Split
    validation: Split | None
    test: Split
    channels: int = 3


class ImageData(LightningDataModule):
    """Batches of images (n, C, H, W) float32, normalised, and labels (n,) int64.

    If `several_labels` is true, an image can have several labels, or none: labels are (n, classes)
    float32, 1 for each class whose label the image has, else 0; NaN where that is not known.

    `prepare()` sets the attributes `class_names`, `num_classes`, `image_size` (height, width),
    `channels` (C: 3 for RGB, 1 for grey levels), `sizes` (images in "train", "validation", "test"),
    `statistics` ("mean" and "std", one number a channel, on a scale of 0..1) and `evaluation_split`,
    the split of `val_dataloader`: "validation" if images are held out, else "test".

    Args:
        batch_size: images in a batch, over all devices together.
        num_workers: processes that read images, for each device; None: the data set decides.
        augment: whether training images are augmented at random.
        validation: the number of training images to hold out. The seed does not affect which ones.
        seed: together with the epoch it decides order and augmentation of the training images.
        normalise: "mean_std": subtract the mean of the training images and divide by their
            standard deviation, in each channel; "scale": only divide by 255; "imagenet":
            mean_std with the statistics of ImageNet. By pixels, for images held in memory:
            "pixel_mean", "pixel_mean_std" and "zca", see pixel_statistics.measured.
        drop_last: whether each epoch leaves out the last training batch if it has fewer images.
        randaugment: magnitude of the random operations of RandAugment on training images, in addition
            to what `augment` does, see random_operations; None: none.

    Raises:
        OptionError: if an option breaks its rule.
    """

    name = ""
    typed_root = ""  # the folder of the images as it was typed; `root` is a path
    root_key = "root"  # the option that names this folder
    crop_fraction = 1.0  # the share of an image's shorter side that the centre crop keeps
    normalisations: tuple[str, ...] = ("mean_std", "scale", "imagenet")
    several_labels = False  # whether an image can have several labels
    skip_broken = False  # whether evaluated images can be missing: black, with a label of -1
    leaves_training_batches = False  # whether the training step itself calls `complete`

    def __init__(
        self,
        batch_size: int = 64,
        num_workers: int | None = None,
        augment: bool = True,
        validation: int = 0,
        seed: int = 0,
        normalise: str = "mean_std",
        drop_last: bool = False,
        randaugment: int | None = None,
    ) -> None:
        super().__init__()
        self.batch_size = whole_number("batch_size", batch_size, 64)
        self.num_workers = num_workers
        if num_workers is not None:
            whole_number("num_workers", num_workers, 4, at_least=0)
        self.augment = switch("augment", augment)
        self.validation = whole_number("validation", validation, 5000, at_least=0)
        self.seed = whole_number("seed", seed, 1, at_least=0)
        self.normalise = choice("normalise", normalise, self.normalisations)
        self.drop_last = switch("drop_last", drop_last)
        self.rand_augment = None if randaugment is None else RandAugment(randaugment)
        if self.rand_augment is not None and not augment:
            rule = "augments images, which augment=false forbids"
            raise OptionError("randaugment", randaugment, rule, "null")
        self._contents: Contents | None = None
        self._order: EpochOrder | None = None
        self._resume: tuple[int, int] | None = None
        self._scales: dict[tuple[torch.device, int], Scale | Whitening] = {}
        self.skipped = Skipped()
        self._warned: set[str] = set()  # the warnings about loader workers given so far

    @property
    def train_image_size(self) -> tuple[int, int]:
        """Height and width of the network's input in training."""
        return self.image_size

    @property
    def has_validation_images(self) -> bool:
        """Whether images are held out for validation; known before any image is read."""
        return self.validation > 0

    def prepare(self) -> None:
        """Read the content, which must be known before a network is built; a second call does nothing.

        Raises:
            UserError: if images are missing or broken, or an option does not fit them.
        """
        if self._contents is not None:
            return
        with self.root_as_typed():
            self._contents = contents = self.read()
        self.class_names = contents.class_names
        self.num_classes = len(contents.class_names)
        self.image_size, self.channels = contents.image_size, contents.channels
        self.statistics = contents.statistics
        held_out = contents.validation
        self.sizes = {
            "train": len(contents.train),
            "validation": 0 if held_out is None else len(held_out),
            "test": len(contents.test),
        }
        self.evaluation_split = "test" if held_out is None else "validation"

    @contextmanager
    def root_as_typed(self) -> Iterator[None]:
        """Within this context errors show the root folder as the user typed it.

        Raises:
            OptionError: in place of an OSError about a file.
        """
        try:
            yield
        except OptionError as error:
            if error.key != "root":
                raise
            raise OptionError("root", self.typed_root, error.rule, error.example) from error
        except OSError as error:
            if error.filename is None:
                raise
            rule = f"{error.filename} cannot be read ({error.strerror})"
            raise OptionError(self.root_key, self.typed_root, rule) from error

    def read(self) -> Contents:
        """Find and read the images. Each data set implements it."""
        raise NotImplementedError

    def digest(self) -> str | None:
        """Hexadecimal digits that identify the images; None if there is no cheap way to get them.

        Equal images have equal digests, wherever their files are. The options that all data sets
        share do not change the digest. A run that is resumed, and a sweep that is started again,
        compare it with the recorded one to notice that the images have changed.

        Raises:
            UserError: if the images are missing.
        """
        return None

    def waits_for_pack(self) -> bool:
        """Whether the images must be packed before they are read, which can take hours."""
        return False

    def facts(self) -> dict[str, Any]:
        """What else the record of a run says of its images: nothing, for most data sets."""
        return {}

    def augmented(self, images: Tensor, draws: Tensor) -> Tensor:
        """Normalise training images (n, H, W, C) uint8 and augment them as their draws (n,) decide."""
        raise NotImplementedError

    def workers(self) -> int:
        """Processes that read images: num_workers, or the default of this data set."""
        return self.default_workers() if self.num_workers is None else self.num_workers

    def default_workers(self) -> int:
        """Processes that read images if num_workers is None."""
        return 0

    def setup(self, stage: str | None = None) -> None:
        """Lightning calls this before it requests the first loader."""
        self.prepare()

    def train_dataloader(self) -> DataLoader:
        """All batches of an epoch in random order; see EpochOrder."""
        contents = self._read_contents()
        self._order = self.epoch_order(*self._rank_and_processes())
        if self._resume is not None:
            self._order.start_at(*self._resume)
        return self._loader(self.training_split(contents.train), self._order)

    def epoch_order(
        self, rank: int = 0, world_size: int = 1, batch_size: int | None = None
    ) -> EpochOrder:
        """The training batches of one of several processes; see EpochOrder.

        Args:
            rank, world_size: of the process, and how many there are.
            batch_size: in place of the option.

        Raises: as EpochOrder.
        """
        images = len(self._read_contents().train)
        return EpochOrder(
            images, batch_size or self.batch_size, self.seed, rank, world_size, self.drop_last
        )

    def val_dataloader(self) -> DataLoader:
        """The held-out images in order; the test images if none are held out."""
        contents = self._read_contents()
        return self._evaluation_loader(contents.validation or contents.test)

    def test_dataloader(self) -> DataLoader:
        """The test images in order."""
        return self._evaluation_loader(self._read_contents().test)

    def some_test_images(self, number: int) -> tuple[Tensor, Tensor]:
        """At most `number` test images, chosen at random but always the same, not normalised.

        Returns:
            Images (n, H, W, C) uint8 and labels (n,) int64.
        """
        test = self._read_contents().test
        chosen = np.random.default_rng(0).permutation(len(test))[:number]
        images, labels, *_ = test[np.stack([np.sort(chosen), np.zeros_like(chosen)], axis=1)]
        return images, labels

    def class_counts(self) -> tuple[Tensor, Tensor]:
        """How many training images have the label of each class, and of how many it is known.

        Returns:
            Two tensors (classes,) int64.
        """
        labels = self._read_contents().train.labels
        if self.several_labels:
            return labels.nan_to_num().sum(0).long(), (~labels.isnan()).sum(0)
        counts = labels.bincount(minlength=len(self._read_contents().class_names))
        return counts, torch.full_like(counts, len(labels))

    def resume_at(self, epoch: int, batch: int) -> None:
        """Start training epoch `epoch` at batch `batch`, both from 0; later epochs start at batch 0."""
        self._resume = (epoch, batch)
        if self._order is not None:
            self._order.start_at(epoch, batch)

    def training_split(self, split: Split) -> Split:
        """What the training loader reads: the split, or one that gives its batches, augmented."""
        return split if self.rand_augment is None else RandAugmentedSplit(split, self.rand_augment)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int = 0) -> Batch:
        """A batch ready for the network, see `complete`, unless the training step will complete it."""
        is_left = self.leaves_training_batches and self.trainer is not None and self.trainer.training
        return batch if is_left else self.complete(batch)

    def complete(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Normalise a batch of a loader, and augment it in training, unless a loader worker did so.

        Returns:
            Images (n, C, H, W) float32, channels_last, and labels (n,) int64. Several crops of each
            image are (n, crops, C, H, W).
        """
        images, labels = self.finished(batch)
        return images.movedim(-1, -3), labels

    def finished(self, batch: Batch, empty: Empty = torch.empty) -> Batch:
        """Normalise a batch and augment it in training, on its device: images (n, H, W, C) float32.

        Args:
            batch: of a split; one that is finished already stays as it is.
            empty: may make the memory for the images.
        """
        images, labels, *draws = batch
        if images.is_floating_point():
            return images, labels
        if draws:
            return self.augmented(images, draws[0]), labels
        pixels = images.flatten(0, -4)  # of several crops of an image, too
        scale = self.scale_on(images.device, images.shape[-2])
        return scale.normalised(pixels).view(images.shape), labels

    def scale_on(self, device: torch.device, width: int | None = None) -> Scale | Whitening:
        """Mean and std, copied to a device only once: each copy makes the CPU wait for the device.

        Args:
            device: of the images.
            width: of the images in pixels; None: that of the test images.
        """
        key = device, width or self.image_size[1]
        if key not in self._scales:
            self._scales[key] = self.normaliser(*key)
        return self._scales[key]

    def normaliser(self, device: torch.device, width: int) -> Scale | Whitening:
        """What normalises images of a width in pixels, with its constants on a device."""
        return Scale.of(self.statistics, width, device)

    def _read_contents(self) -> Contents:
        self.prepare()
        assert self._contents is not None
        return self._contents

    def _rank_and_processes(self) -> tuple[int, int]:
        """The rank of this process, and the number of processes."""
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size

    def _evaluation_loader(self, split: Split, batch_size: int | None = None) -> DataLoader:
        rank, world_size = self._rank_and_processes()
        order = EvaluationOrder(len(split), batch_size or self.batch_size, rank, world_size)
        return self._loader(split, order)

    def _loader(self, split: Split, order: EpochOrder | EvaluationOrder) -> DataLoader:
        """A loader of batches of bytes; of finished ones if there are workers but no GPU.

        A worker finishes a batch with one thread; threads of this process would wait for each other
        while workers use the cores. A GPU finishes batches in no time, and gets a quarter of the bytes.
        """
        workers, largest = self.workers(), 0
        if self._contents is not None:
            pixels = max(math.prod(self.image_size), math.prod(self.train_image_size))
            largest = order.largest * split.crops * pixels * self.channels
            if workers and are_forked() and self._trains_on_cpu():
                split, largest = FinishedSplit(split, self.finished), 4 * largest
        return LazyLoader(split, order, workers, self._warned, self.skipped.add, largest)

    def _trains_on_cpu(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cpu"


def usable_cores() -> int:
    """The number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def expanded_folder(key: str, value: Any) -> Path:
    """The folder that an option names; ~ is replaced by the home folder. Raises OptionError."""
    if not isinstance(value, (str, Path)) or not str(value).strip():
        raise OptionError(key, value, "must be a folder", "/path/to/images")
    try:
        path = Path(value)
        return path if path.exists() else path.expanduser()  # a folder may be called ~x
    except RuntimeError:
        rule = "names a home folder, but this user has none"
        raise OptionError(key, value, rule, "/path/to/images") from None
