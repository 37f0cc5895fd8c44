"""Images in folders named by class: ImageNet's layout, or your own photos."""

from __future__ import annotations

import copy
import logging
import os
import random
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from densenet_cli.data.augmentation import Scale, affine, colour_jitter, flip_half, lighting
from densenet_cli.data.colour_statistics import (
    Statistics,
    imagenet,
    statistics_of,
    unchanged,
    value_counts,
)
from densenet_cli.data.epoch_order import EvaluationOrder, Tickets
from densenet_cli.data.folder_layout import Files, class_names, digest, labelled_splits, split_folders
from densenet_cli.data.image_check import check_images
from densenet_cli.data.image_data import (
    Batch,
    Contents,
    ImageData,
    Split,
    expanded_folder,
    usable_cores,
)
from densenet_cli.data.image_files import LeftOut
from densenet_cli.data.photo import (
    CROP_FRACTION,
    MAX_PIXELS,
    TooLarge,
    centre_crop,
    limit_pixels,
    random_crop,
    reason,
    ten_crops,
)
from densenet_cli.data.splits import hold_out, stratified
from densenet_cli.options import OptionError, UserError, choice, number, shown, switch, whole_number
from densenet_cli.plain_text import printable

log = logging.getLogger(__name__)


class FolderSplit(Split):
    """Image files, read and cropped to one size on request.

    Args:
        files: the image files.
        image_size: height and width of the square images, in pixels.
        max_pixels: see `photo.limit_pixels`.
        augment: whether to crop at random, as each draw decides.
        channels: 3: red, green and blue; 1: grey levels.
        antialias: see `photo.centre_crop`.

    Attributes:
        crops: 10: images are (n, 10, H, W, C), see `photo.ten_crops`; else 1.
    """

    crops = 1

    def __init__(
        self,
        files: Files,
        image_size: int,
        max_pixels: int | None,
        augment: bool = False,
        channels: int = 3,
        antialias: bool = True,
    ) -> None:
        # one array of bytes: reading a list of strings in a forked worker would copy it, bit by bit
        self.paths = np.array([os.fsencode(path) for path in files.paths])
        self.labels = torch.from_numpy(files.labels)
        self.image_size, self.max_pixels, self.augment = image_size, max_pixels, augment
        self.channels, self.antialias = channels, antialias

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, tickets: Tickets) -> Batch:
        limit_pixels(self.max_pixels)  # this may be a new worker process
        crops = () if self.crops == 1 else (self.crops,)
        shape = (len(tickets), *crops, self.image_size, self.image_size, self.channels)
        images = torch.empty(shape, dtype=torch.uint8)
        for row, (index, draw) in enumerate(tickets.tolist()):
            images[row] = self._image(index, draw)
        indices, draws = torch.from_numpy(tickets).unbind(1)
        batch = images, self.labels[indices]
        return (*batch, draws.clone()) if self.augment else batch

    def _image(self, index: int, draw: int) -> Tensor:
        path = os.fsdecode(self.paths[index])
        try:
            if self.augment:
                chance = random.Random(draw)
                return random_crop(path, self.image_size, chance, self.channels, self.antialias)
            crop = centre_crop if self.crops == 1 else ten_crops
            return crop(path, self.image_size, channels=self.channels, antialias=self.antialias)
        except TooLarge as error:
            rule = f"more than data.max_pixels={self.max_pixels} allows; type data.max_pixels"
            name, needed = printable(path), shown(error.needed)
            raise UserError(f"{name} {error}, {rule}={needed} to read it") from error
        except Exception as error:  # decoders raise nearly anything
            rule = f"cannot be read ({reason(error)}); repair or delete it"
            raise UserError(f"{printable(path)} {rule}") from error


class ImageFolder(ImageData):
    """Images of any size and format, one folder for each class.

    If there are train/ and val/, the images of val/ are the test images, as for ImageNet. If there are
    train/, val/ and test/, those of val/ are the held-out images. Otherwise the folders are the
    classes, and some images of each class become the test images, always the same ones.

    Training images are augmented as in fb.resnet.torch for ImageNet (random crop, colour jitter,
    lighting, mirroring); the others are resized and cropped at the centre.

    Args:
        root: the folder.
        image_size: height and width of the network's input, in pixels, 8 or more.
        test_fraction: share of the images that become test images if there is no folder of them.
        check: whether to decode all images before training, to report broken images and training
            images that are also test or held-out images. A good image is not decoded again until its
            file changes.
        max_pixels: larger images are refused, and PNG files with more bytes of text, since a small file
            can unpack to more than the memory holds. None: no limit.
        channels: 3: read images in RGB; 1: in grey levels, the luma of ITU-R BT.601. Augmented images
            are then the luma of what colour images would be.
        antialias: whether images are resized with antialiasing, as by Pillow and PyTorch; false: as by
            Torch7, with which the DenseNet paper's networks were trained.
        test_crops: 10: the test after training sums the logits of ten crops of each image, as
            fb.resnet.torch does for table 3 of the DenseNet paper. It takes ten times as long. The
            evaluations after each epoch use one crop.
        others: as ImageData; num_workers None: one worker per core, 8 at most.

    Raises:
        OptionError: from the constructor and from `prepare`, if an option breaks its rule.
        UserError: from `prepare`, if images are broken.
    """

    name = "image_folder"
    crop_fraction = CROP_FRACTION

    def __init__(
        self,
        root: str,
        batch_size: int = 64,
        image_size: int = 224,
        num_workers: int | None = None,
        augment: bool = True,
        validation: int = 0,
        test_fraction: float = 0.2,
        seed: int = 0,
        normalise: str = "imagenet",
        drop_last: bool = False,
        check: bool = True,
        max_pixels: int | None = MAX_PIXELS,
        channels: int = 3,
        antialias: bool = True,
        test_crops: int = 1,
    ) -> None:
        super().__init__(batch_size, num_workers, augment, validation, seed, normalise, drop_last)
        self.root, self.typed_root = expanded_folder("root", root), root
        self.side = whole_number("image_size", image_size, 224, at_least=8)
        self.test_fraction = number("test_fraction", test_fraction, 0.2, above=0, below=1)
        self.check = switch("check", check)
        self.max_pixels = max_pixels
        if max_pixels is not None:
            whole_number("max_pixels", max_pixels, MAX_PIXELS)
        self.channels = choice("channels", whole_number("channels", channels, 3), (3, 1))
        self.antialias = switch("antialias", antialias)
        self.test_crops = choice("test_crops", whole_number("test_crops", test_crops, 10), (1, 10))
        self._digest: str | None = None

    @property
    def has_validation_images(self) -> bool:
        """Whether training images are held out, or the folder has validation images of its own."""
        with self.root_as_typed():
            return self.validation > 0 or {"validation", "test"} <= split_folders(self.root).keys()

    def read(self) -> Contents:
        """Find the files of each split; check and measure them as the options say."""
        names, files = self._files()
        if self.check:
            paths = [path for part in files.values() for path in part.paths]
            digests = check_images(self.typed_root, paths, usable_cores(), self.max_pixels)
            _warn_of_shared(files, digests)
        held_out = files.get("validation")
        return Contents(
            names,
            (self.side, self.side),
            self._statistics(files["train"]),
            self._split(files["train"], self.augment),
            self._split(held_out) if held_out else None,
            self._split(files["test"]),
            self.channels,
        )

    def _split(self, files: Files, augment: bool = False) -> FolderSplit:
        return FolderSplit(files, self.side, self.max_pixels, augment, self.channels, self.antialias)

    def test_dataloader(self) -> DataLoader:
        """The test images in order; each as (10, C, H, W) if its logits are those of ten crops."""
        split = self._read_contents().test
        if self.test_crops == 1:
            return super().test_dataloader()
        split = copy.copy(split)
        assert isinstance(split, FolderSplit)
        split.crops = self.test_crops
        _, processes = self._rank_and_processes()
        images = max(1, self.batch_size // self.test_crops // processes) * processes
        return self._evaluation_loader(split, images)

    def augmented(self, images: Tensor, draws: Tensor) -> Tensor:
        """Mirror half of the images, jitter their colours, and shift their lighting."""
        pixels = flip_half(images, draws).float()
        factors, offsets = colour_jitter(pixels, draws)
        scale = self.scale_on(images.device)
        assert isinstance(scale, Scale)
        light = (lighting(draws, self.channels) - scale.mean) / scale.std
        return affine(pixels, factors / (255 * scale.std), offsets / (255 * scale.std) + light)

    def default_workers(self) -> int:
        """One worker per core, 8 at most; the processes of a run share the cores."""
        processes = self.trainer.num_devices if self.trainer else 1
        return max(1, min(8, usable_cores() // processes))

    def digest(self) -> str:
        """Of the names and sizes of all files; see `folder_layout.digest`."""
        if self._digest is None:
            with self.root_as_typed():
                self._find()
        return self._digest or ""

    def _find(self) -> tuple[dict[str, Path], list[str], dict[str, Files]]:
        """The folder of each split, the class names, and all files of each split; sets the digest."""
        self._left_out = left_out = LeftOut()
        folders = split_folders(self.root, left_out)
        names = class_names(folders.get("train") or folders["all"])
        files = labelled_splits(folders, names, left_out)
        self._digest = digest(folders, files)
        return folders, names, files

    def _files(self) -> tuple[list[str], dict[str, Files]]:
        """Class names, and the files of "train", "test" and, if held out, "validation"."""
        folders, names, files = self._find()
        self._left_out.warn(self.typed_root)
        if "all" in files:
            files = self._split_off_test(files["all"])
        elif len(files) == 3:
            if self.validation:
                rule = f"must be 0: the held-out images are those of {folders['validation']}"
                raise OptionError("validation", self.validation, rule, 0)
            return names, files
        if "test" not in files:
            log.info("no test folder: the images of %s are the test images", folders["validation"])
            files["test"] = files.pop("validation")
        if self.validation:
            training, held_out = hold_out(files["train"].labels, self.validation)
            files["validation"] = files["train"].chosen(held_out)
            files["train"] = files["train"].chosen(training)
        return names, files

    def _split_off_test(self, files: Files) -> dict[str, Files]:
        total = len(files.paths)
        count = min(max(1, round(total * self.test_fraction)), total - 1)
        training, test = stratified(files.labels, count)
        log.info("no test folder: %d of %d images become the test images", count, total)
        return {"train": files.chosen(training), "test": files.chosen(test)}

    def _statistics(self, files: Files) -> Statistics:
        if self.normalise == "imagenet":
            return imagenet(self.channels)
        if self.normalise == "scale":
            return unchanged(self.channels)
        log.info("measuring the colours of %d training images", len(files.paths))
        split = self._split(files)
        counts = torch.zeros(self.channels, 256, dtype=torch.int64)
        for images, _ in self._loader(split, EvaluationOrder(len(split), batch_size=64)):
            counts += value_counts(images)
        return statistics_of(counts)


def _warn_of_shared(files: dict[str, Files], digests: np.ndarray) -> None:
    """Warn of images with the same content in two splits.

    Args:
        files: of each split.
        digests: of the content of all files, in this order.
    """
    ends = np.cumsum([len(part.paths) for part in files.values()])
    parts = dict(zip(files, np.split(digests, ends[:-1]), strict=True))
    found: list[str] = []
    for other, kind in (("train", "training"), ("test", "test")):
        shared, example = [], ""
        for split, its in parts.items():
            if split in ("train", other):
                continue
            same = np.flatnonzero(np.isin(its, parts[other]))
            if len(same):
                shared.append(f"{len(same)} of {len(its)} {split} images")
                there = files[other].paths[int(np.argmax(parts[other] == its[same[0]]))]
                example = f"{printable(files[split].paths[same[0]])} equals {printable(there)}"
        if shared:
            found.append(f"{' and '.join(shared)} are also {kind} images ({example})")
    if found:
        log.warning("%s: the measured errors will be too low", "; ".join(found))
