"""Images of one split, from files or from elsewhere, and their crops of one size."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from densenet_cli.data.epoch_order import Tickets
from densenet_cli.data.file_list import Paths
from densenet_cli.data.image_data import Batch, Split
from densenet_cli.data.photo import (
    TooLarge,
    centre_crop,
    limit_pixels,
    random_crop,
    reason,
    ten_crops,
)
from densenet_cli.data.picture import Picture
from densenet_cli.data.skipped import NO_IMAGE, Unread, is_fault_of_image
from densenet_cli.options import UserError, shown
from densenet_cli.plain_text import printable


@dataclass(frozen=True)
class Files:
    """Image files and their classes.

    Attributes:
        paths: absolute, or relative to the working folder.
        labels: (n,) int64, an index into the class names; or (n, classes) float32, see ImageData.
        stamps: their sizes and times, see `file_list.stamps`.
    """

    paths: Paths
    labels: np.ndarray
    stamps: np.ndarray

    @classmethod
    def joined(cls, parts: Iterable[Files]) -> Files:
        """The files of all parts, one after the other."""
        parts = list(parts)
        paths = Paths.joined(part.paths for part in parts)
        labels = np.concatenate([part.labels for part in parts])
        return cls(paths, labels, np.concatenate([part.stamps for part in parts]))

    def state(self) -> bytes:
        """A digest that changes when files are added, removed, moved or written."""
        return hashlib.sha256(self.paths.state() + self.stamps.tobytes()).digest()

    def chosen(self, indices: np.ndarray | slice) -> Files:
        """The files with these indices."""
        return Files(self.paths.chosen(indices), self.labels[indices], self.stamps[indices])


class Source(Protocol):
    """Images with labels, read one at a time, perhaps in a forked worker.

    Attributes:
        labels: as those of Files.
    """

    labels: np.ndarray

    def name(self, index: int) -> str:
        """What messages call an image."""

    def picture(self, index: int) -> Picture:
        """An image as `photo` reads it. Raises OSError if it cannot be read."""


class FileSource:
    """The images of files.

    Args:
        files: the image files and their classes.
    """

    def __init__(self, files: Files) -> None:
        self.paths, self.labels = files.paths, files.labels

    def name(self, index: int) -> str:
        """The path of a file."""
        return self.paths[index]

    def picture(self, index: int) -> str:
        """The path of a file, which is read when it is decoded."""
        return self.name(index)


class PhotoSplit(Split):
    """Images, read and cropped to one size on request.

    Args:
        source: the images.
        image_size: height and width of the square images, in pixels.
        max_pixels: see `photo.limit_pixels`.
        augment: whether to crop at random, as each draw decides.
        channels: 3: red, green and blue; 1: grey levels.
        antialias: see `photo.centre_crop`.

    Attributes:
        crops: 10: images are (n, 10, H, W, C), see `photo.ten_crops`; else 1.
        role: "train", "validation" or "test" if images that cannot be read are skipped; None if they
            are errors. In place of a skipped image, training has another image of its batch;
            evaluation has a black one whose label is NO_IMAGE.
        unread: images that could not be read in this process, which a loader takes from here.
    """

    crops = 1
    role: str | None = None

    def __init__(
        self,
        source: Source,
        image_size: int,
        max_pixels: int | None,
        augment: bool = False,
        channels: int = 3,
        antialias: bool = True,
    ) -> None:
        self.source, self.labels = source, torch.from_numpy(source.labels)
        self.image_size, self.max_pixels, self.augment = image_size, max_pixels, augment
        self.channels, self.antialias = channels, antialias
        self.unread: list[Unread] = []

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, tickets: Tickets) -> Batch:
        limit_pixels(self.max_pixels)  # this may be a new worker process
        crops = () if self.crops == 1 else (self.crops,)
        shape = (len(tickets), *crops, self.image_size, self.image_size, self.channels)
        images = self.empty(shape, dtype=torch.uint8)
        lacking = []
        for row, (index, draw) in enumerate(tickets.tolist()):
            image = self._image(index, draw)
            if image is None:
                lacking.append(row)
            else:
                images[row] = image
        indices, draws = torch.from_numpy(tickets).unbind(1)
        labels = self.labels[indices]
        if lacking:
            self._fill(images, labels, tickets, lacking)
        batch = images, labels
        return (*batch, draws.clone()) if self.augment else batch

    def _fill(self, images: Tensor, labels: Tensor, tickets: Tickets, lacking: list[int]) -> None:
        """Fill the rows of images that are skipped: in training by the next image of the batch.

        That one is then augmented in two ways. So batches keep their sizes, in all processes.
        """
        good = sorted(set(range(len(labels))) - set(lacking))
        if not good and (self.role == "train" or len(labels) > 1):
            name, why = self.unread[-1].name, self.unread[-1].reason
            rule = f"none of the {len(labels)} images of a batch can be read"
            raise UserError(f"{rule}; the last one is {name} ({why})")
        for row in lacking:
            if self.role == "train":
                other = next((one for one in good if one > row), good[0])
                image = self._image(int(tickets[other, 0]), int(tickets[row, 1]))
                assert image is not None
                images[row], labels[row] = image, labels[other]
            else:
                images[row], labels[row] = 0, NO_IMAGE

    def _image(self, index: int, draw: int) -> Tensor | None:
        """An image; None if it is skipped. Raises UserError if it cannot be read."""
        try:
            picture = self.source.picture(index)
            if self.augment:
                chance = random.Random(draw)
                return random_crop(picture, self.image_size, chance, self.channels, self.antialias)
            crop = centre_crop if self.crops == 1 else ten_crops
            return crop(picture, self.image_size, channels=self.channels, antialias=self.antialias)
        except Exception as error:  # decoders raise nearly anything
            name = self.source.name(index)
            is_its = is_fault_of_image(error, name)
            if is_its and self.role is not None:
                self.unread.append(Unread(self.role, printable(name), reason(error)))
                return None
            if isinstance(error, TooLarge):
                rule = f"more than data.max_pixels={self.max_pixels} allows; type data.max_pixels"
                needed = f"{rule}={shown(error.needed)} to read it"
                raise UserError(f"{printable(name)} {error}, {needed}") from error
            remedy = ", or type data.skip_broken=true" if is_its else ""
            rule = f"cannot be read ({reason(error)}); repair or delete it{remedy}"
            raise UserError(f"{printable(name)} {rule}") from error
