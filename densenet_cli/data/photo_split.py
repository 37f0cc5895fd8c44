"""Images of one split, from files or from elsewhere, and their crops of one size."""

from __future__ import annotations

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
    """

    crops = 1

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

    def __len__(self) -> int:
        return len(self.labels)

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
        try:
            picture = self.source.picture(index)
            if self.augment:
                chance = random.Random(draw)
                return random_crop(picture, self.image_size, chance, self.channels, self.antialias)
            crop = centre_crop if self.crops == 1 else ten_crops
            return crop(picture, self.image_size, channels=self.channels, antialias=self.antialias)
        except TooLarge as error:
            rule = f"more than data.max_pixels={self.max_pixels} allows; type data.max_pixels"
            name, needed = printable(self.source.name(index)), shown(error.needed)
            raise UserError(f"{name} {error}, {rule}={needed} to read it") from error
        except Exception as error:  # decoders raise nearly anything
            rule = f"cannot be read ({reason(error)}); repair or delete it"
            raise UserError(f"{printable(self.source.name(index))} {rule}") from error
