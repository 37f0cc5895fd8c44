"""What all data sets of photos share: crops, augmentation, the check, loaders."""

from __future__ import annotations

import copy
import logging
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from densenet_cli.data.augmentation import (
    Scale,
    affine,
    affine_one_by_one,
    colour_jitter,
    flip_half,
    lighting,
    mean_grey,
    normalised_one_by_one,
)
from densenet_cli.data.colour_statistics import (
    Statistics,
    imagenet,
    statistics_of,
    unchanged,
)
from densenet_cli.data.dark_images import warn_of_dark_images
from densenet_cli.data.epoch_order import EvaluationOrder
from densenet_cli.data.file_list import Paths
from densenet_cli.data.image_check import Check, check_images
from densenet_cli.data.image_data import Contents, ImageData, expanded_folder, usable_cores
from densenet_cli.data.measured_colours import measured_counts
from densenet_cli.data.pack import Pack, PackSource, is_pack
from densenet_cli.data.pack_writer import Packable
from densenet_cli.data.packed_photos import open_or_make, pack_options
from densenet_cli.data.photo import CROP_FRACTION, MAX_PIXELS
from densenet_cli.data.photo_split import Files, FileSource, PhotoSplit, Source
from densenet_cli.data.quick_check import check_quickly
from densenet_cli.data.skipped import were_read
from densenet_cli.data.split import Batch, Empty
from densenet_cli.data.splits import stratified
from densenet_cli.options import choice, number, switch, whole_number
from densenet_cli.plain_text import printable

log = logging.getLogger(__name__)


class PhotoData(ImageData):
    """Image files of any size and format. Which ones, `files` of each data set says.

    Training images are augmented as in fb.resnet.torch for ImageNet (random crop, colour jitter,
    lighting, mirroring), or by RandAugment in place of jitter and lighting; the others are resized and
    cropped at the centre.

    Args:
        root: the folder of the images.
        image_size: height and width of the network's input, in pixels, 8 or more.
        train_size: the same in training, if not None. Training on smaller images costs less, and random
            crops enlarge objects: a network trained at 160 pixels can be best at 224 (Touvron et al.
            2019, arXiv:1906.06423).
        test_fraction: share of the images that become test images if none are marked as such.
        check: before training, report broken images, and training images that are also test or held-out
            images. "quick": as `quick_check.check_quickly` finds them, in seconds; "full" or true:
            decode all images; false: do not. Good images are not checked again until their files
            change.
        skip_broken: whether images that cannot be read are skipped, see PhotoSplit, or are errors.
        max_pixels: larger images are refused, and PNG files with more bytes of text, since a small file
            can unpack to more than the memory holds. None: no limit.
        channels: 3: read images in RGB; 1: in grey levels, the luma of ITU-R BT.601. Augmented images
            are then the luma of what colour images would be.
        antialias: whether images are resized with antialiasing, as by Pillow and PyTorch; false: as by
            Torch7, with which the DenseNet paper's networks were trained.
        test_crops: 10: the test after training sums the logits of ten crops of each image, as
            fb.resnet.torch does for table 3 of the DenseNet paper. It takes ten times as long. The
            evaluations after each epoch use one crop.
        pack: whether to read the images from a pack, which is made once; see `pack`. True: it is in the
            cache folder; NAME.pack: this one; another folder: it is in this one.
        pack_size: larger images are resized before packing, to a shorter side of so many pixels. Random
            crops then have less detail than those of the photos. None: files are packed as they are.
        pack_quality: of the JPEG files of resized images, 1 to 100; "raw": all images as pixels.
        others: as ImageData; num_workers None: one worker per core, 8 at most.

    Raises:
        OptionError: from the constructor and from `prepare`, if an option breaks its rule.
        UserError: from `prepare`, if images are broken.
    """

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
        check: str | bool = "quick",
        max_pixels: int | None = MAX_PIXELS,
        channels: int = 3,
        antialias: bool = True,
        test_crops: int = 1,
        randaugment: int | None = None,
        pack: bool | str = False,
        pack_size: int | None = 256,
        pack_quality: int | str = 90,
        skip_broken: bool = False,
        train_size: int | None = None,
    ) -> None:
        super().__init__(
            batch_size, num_workers, augment, validation, seed, normalise, drop_last, randaugment
        )
        self.root, self.typed_root = expanded_folder("root", root), root
        self.side = self.train_side = whole_number("image_size", image_size, 224, at_least=8)
        if train_size is not None:
            self.train_side = whole_number("train_size", train_size, 160, at_least=8)
        self.test_fraction = number("test_fraction", test_fraction, 0.2, above=0, below=1)
        self.check = choice("check", "full" if check is True else check, ("quick", "full", False))
        self.max_pixels = max_pixels
        if max_pixels is not None:
            whole_number("max_pixels", max_pixels, MAX_PIXELS)
        self.channels = choice("channels", whole_number("channels", channels, 3), (3, 1))
        self.antialias = switch("antialias", antialias)
        self.skip_broken = switch("skip_broken", skip_broken)
        self.test_crops = choice("test_crops", whole_number("test_crops", test_crops, 10), (1, 10))
        self.pack_options = pack_options(pack, pack_size, pack_quality)
        self.pack: Pack | None = None

    def files(self) -> tuple[list[str], dict[str, Files]]:
        """Class names, and the files of "train", "test" and, if held out, "validation".

        Raises:
            UserError: if there are none, or an option does not fit them.
        """
        raise NotImplementedError

    def packable(self) -> Packable:
        """All images, of all splits, as they are packed."""
        classes, files = self.files()
        whole = Files.joined(files.values())
        whole = whole.chosen(np.array(sorted(range(len(whole.paths)), key=whole.paths.encoded)))
        names = whole.paths.within(self.root)
        return Packable(self.typed_root, whole, names, self.digest() or "", classes, None)

    def waits_for_pack(self) -> bool:
        """As ImageData. Raises UserError if there are no images."""
        if self.pack_options is None:
            return False
        with self.root_as_typed():
            return not is_pack(self.pack_options.folder(self.packable()))

    def facts(self) -> dict[str, Any]:
        """Which pack the images were read from, if any."""
        return {"pack": None if self.pack is None else asdict(self.pack.packing)}

    def read(self) -> Contents:
        """Find the files of each split; check and measure them as the options say."""
        names, files = self.files()
        if self.pack_options is not None:
            self.pack = open_or_make(
                self.pack_options, self.packable(), self.max_pixels, self.skip_broken
            )
        sources = {split: self._source(part) for split, part in files.items()}
        self._check(files, sources)
        held_out = sources.get("validation")
        return Contents(
            names,
            (self.side, self.side),
            self._statistics(sources["train"], files["train"]),
            self._split(sources["train"], "train", self.augment, self.train_side),
            self._split(held_out, "validation") if held_out else None,
            self._split(sources["test"], "test"),
            self.channels,
        )

    def _check(self, files: dict[str, Files], sources: dict[str, Source]) -> None:
        """Report broken images and images in two splits, as the option says, or as a pack knows."""
        check = Check(self.typed_root, usable_cores(), self.max_pixels, self.skip_broken)
        if self.pack is not None:
            parts = [one.rows for one in sources.values() if isinstance(one, PackSource)]
            rows = self.pack.index[np.concatenate(parts)]
            unlike = np.arange(len(rows), dtype=np.uint64)  # images that were left out
            _warn_of_shared(files, np.where(rows["length"] > 0, rows["digest"], unlike))
        elif self.check == "quick":
            _warn_of_shared(files, *check_quickly(check, files))
        elif self.check == "full":
            paths = Paths.joined(part.paths for part in files.values())
            _warn_of_shared(files, check_images(check, paths)[0])
        if self.pack is None and self.check:
            warn_of_dark_images(files["train"].paths)

    def _source(self, files: Files) -> Source:
        """Where images are read from: their files, or the pack."""
        if self.pack is None:
            return FileSource(files)
        return PackSource(self.pack, self.pack.rows(files.paths, self.root), files.labels)

    @property
    def train_image_size(self) -> tuple[int, int]:
        """Height and width of the training images."""
        return self.train_side, self.train_side

    def _split(
        self, source: Source, role: str, augment: bool = False, side: int | None = None
    ) -> PhotoSplit:
        size, most = side or self.side, self.max_pixels
        split = PhotoSplit(source, size, most, augment, self.channels, self.antialias)
        split.role = role if self.skip_broken else None
        return split

    def some_test_images(self, number: int) -> tuple[Tensor, Tensor]:
        """As ImageData, without images that are skipped."""
        images, labels = super().some_test_images(number)
        are_there = were_read(labels)
        return images[are_there], labels[are_there]

    def test_dataloader(self) -> DataLoader:
        """The test images in order; each as (10, C, H, W) if its logits are those of ten crops."""
        split = self._read_contents().test
        if self.test_crops == 1:
            return super().test_dataloader()
        split = copy.copy(split)
        assert isinstance(split, PhotoSplit)
        split.crops = self.test_crops
        _, processes = self._rank_and_processes()
        images = max(1, self.batch_size // self.test_crops // processes) * processes
        return self._evaluation_loader(split, images)

    def finished(self, batch: Batch, empty: Empty = torch.empty) -> Batch:
        """As ImageData; on a CPU an image at a time."""
        images, labels, *draws = batch
        if images.is_floating_point() or not (draws or images.device.type == "cpu"):
            return super().finished(batch)
        if draws:
            return self.augmented(images, draws[0], empty), labels
        result = empty(images.shape, dtype=torch.float32)
        scale = self._scale_for(images)
        normalised_one_by_one(images.flatten(0, -4), None, scale, result.flatten(0, -4))  # of all crops
        return result, labels

    def augmented(self, images: Tensor, draws: Tensor, empty: Empty = torch.empty) -> Tensor:
        """Mirror half of the images; without RandAugment, jitter colours and shift lighting too."""
        scale, on_cpu = self._scale_for(images), images.device.type == "cpu"
        if self.rand_augment is not None:
            if on_cpu:
                result = empty(images.shape, dtype=torch.float32)
                return normalised_one_by_one(images, draws, scale, result)
            return scale.normalised(flip_half(images, draws))
        deviation = 255 * scale.std  # of bytes
        factors, share = colour_jitter(draws, self.channels)
        light = (lighting(draws, self.channels) - scale.mean) / scale.std
        if on_cpu:
            result = empty(images.shape, dtype=torch.float32)
            share = share / deviation
            return affine_one_by_one(images, draws, factors / deviation, share, light, result)
        pixels = flip_half(images, draws).float()
        return affine(pixels, factors / deviation, share * mean_grey(pixels) / deviation + light)

    def _scale_for(self, images: Tensor) -> Scale:
        scale = self.scale_on(images.device, images.shape[-2])
        assert isinstance(scale, Scale)
        return scale

    def default_workers(self) -> int:
        """One worker per core, 8 at most; the processes of a run share the cores."""
        processes = self.trainer.num_devices if self.trainer else 1
        return max(1, min(8, usable_cores() // processes))

    def split_off_test(self, files: Files) -> dict[str, Files]:
        """Test images of each class in proportion, always the same, and the other ones."""
        total = len(files.paths)
        count = min(max(1, round(total * self.test_fraction)), total - 1)
        training, test = stratified(files.labels, count)
        log.info("no test images: %d of %d images become the test images", count, total)
        return {"train": files.chosen(training), "test": files.chosen(test)}

    def _statistics(self, source: Source, files: Files) -> Statistics:
        if self.normalise == "imagenet":
            return imagenet(self.channels)
        if self.normalise == "scale":
            return unchanged(self.channels)
        packing = None if self.pack is None else self.pack.packing
        facts = (self.side, self.channels, self.antialias, packing, files.state())
        split = self._split(source, "train")
        order = EvaluationOrder(len(split), batch_size=64)
        batches = (images for images, *_ in self._loader(split, order))
        return statistics_of(measured_counts(self.typed_root, repr(facts), batches, len(split)))


def _warn_of_shared(files: dict[str, Files], digests: np.ndarray, are_all: bool = True) -> None:
    """Warn of images with the same content in two splits.

    Args:
        files: of each split.
        digests: of the content of all files, in this order.
        are_all: whether the digests of all equal files are equal.
    """
    ends = np.cumsum([len(part.paths) for part in files.values()])
    parts = dict(zip(files, np.split(digests, ends[:-1]), strict=True))
    found: list[str] = []
    least = "" if are_all else "at least "
    for other, kind in (("train", "training"), ("test", "test")):
        shared, example = [], ""
        for split, its in parts.items():
            if split in ("train", other):
                continue
            same = np.flatnonzero(np.isin(its, parts[other]))
            if len(same):
                shared.append(f"{least}{len(same)} of {len(its)} {split} images")
                there = files[other].paths[int(np.argmax(parts[other] == its[same[0]]))]
                example = f"{printable(files[split].paths[same[0]])} equals {printable(there)}"
        if shared:
            found.append(f"{' and '.join(shared)} are also {kind} images ({example})")
    if found:
        log.warning("%s: the measured errors will be too low", "; ".join(found))
