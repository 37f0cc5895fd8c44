"""MNIST (LeCun et al. 1998) and Fashion-MNIST (Xiao et al. 2017): grey images of 28x28 pixels.

Their files are in the IDX format of http://yann.lecun.com/exdb/mnist, compressed by gzip: two zero
bytes, the type of the values (8: bytes), the number of dimensions, the size of each as a big-endian
number of four bytes, and the values.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
import torchvision

from densenet_cli.data.colour_statistics import Statistics
from densenet_cli.data.download import PublishedFile, PublishedSet
from densenet_cli.data.in_memory import Labelled
from densenet_cli.data.published_data import PublishedData
from densenet_cli.options import UserError, choice, whole_number

BYTES = 8  # the type of the values
MOST_UNPACKED = 1032  # bytes that one byte of a gzip file can become
SIDE, WITH_BORDER = 28, 32  # height and width of the images, in pixels


class Mnist(PublishedData):
    """60,000 training and 10,000 test images of handwritten digits in 10 classes, one channel.

    Augmentation shifts images by at most 2 pixels and mirrors none: they are digits.
    The compressed files are below `root` in the folder `MNIST/raw`, as torchvision keeps them.

    Args:
        image_size: 28, or 32: with a margin of 2 pixels of background, as LeNet-5 reads the images
            (LeCun et al. 1998, section II.B), and as networks for 32x32 need them.
        others: as PublishedData.

    Raises: as PublishedData.
    """

    name = "mnist"
    release: type[torchvision.datasets.MNIST] = torchvision.datasets.MNIST
    class_labels = [str(digit) for digit in range(10)]  # noqa: RUF012
    flips = False
    padding = 2
    published: Statistics | None = {"mean": [0.1307], "std": [0.3081]}  # noqa: RUF012 -- pytorch/examples, mnist/main.py

    def __init__(
        self,
        root: str,
        batch_size: int = 64,
        num_workers: int | None = None,
        augment: bool = True,
        validation: int = 0,
        seed: int = 0,
        normalise: str = "mean_std",
        drop_last: bool = False,
        border: str = "zeros",
        image_size: int = SIDE,
        download: bool = True,
        verify: bool = True,
        randaugment: int | None = None,
    ) -> None:
        super().__init__(
            root,
            batch_size,
            num_workers,
            augment,
            validation,
            seed,
            normalise,
            drop_last,
            border,
            download,
            verify,
            randaugment,
        )
        whole_number("image_size", image_size, SIDE)
        self.margin = (choice("image_size", image_size, (SIDE, WITH_BORDER)) - SIDE) // 2
        if self.margin:
            self.published = None  # they are of the images without a margin

    def arrays(self) -> tuple[Labelled, Labelled, list[str]]:
        """All images, (n, image_size, image_size, 1); downloads the files that are missing."""
        self.make_available()
        files = [self.root / file.path for file in self.published_set().files]
        train = read_pair(files[0], files[1], self.margin)
        return train, read_pair(files[2], files[3], self.margin), self.class_labels

    def published_set(self) -> PublishedSet:
        """The official files: images and labels to train on, images and labels to test on."""
        folder, url = f"{self.release.__name__}/raw", self.release.mirrors[0]
        files = [
            PublishedFile(f"{folder}/{name}", md5, url + name) for name, md5 in self.release.resources
        ]
        return PublishedSet(self.name, files)


class FashionMnist(Mnist):
    """60,000 training and 10,000 test images of Zalando's articles in 10 classes, one channel.

    Augmentation mirrors half of the images and shifts all by at most 4 pixels.
    The compressed files are below `root` in the folder `FashionMNIST/raw`.

    Args and Raises: as Mnist.
    """

    name = "fashion_mnist"
    release = torchvision.datasets.FashionMNIST
    class_labels = torchvision.datasets.FashionMNIST.classes
    flips = True
    padding = 4
    published = {"mean": [0.2860], "std": [0.3530]}  # noqa: RUF012


def read_pair(images: Path, labels: Path, margin: int = 0) -> Labelled:
    """The images of one file, with a margin of zeros, and the labels of another.

    Raises:
        UserError: if a file is broken, or the two do not belong together.
    """
    pixels, numbers = read_idx(images, (SIDE, SIDE)), read_idx(labels, ())
    if len(pixels) != len(numbers):
        raise _broken(labels, f"it has {len(numbers)} labels for {len(pixels)} images")
    if numbers.max() > 9:
        raise _broken(labels, "labels must be from 0 to 9")
    framed = np.pad(pixels, ((0, 0), (margin, margin), (margin, margin)))
    return Labelled(torch.from_numpy(framed[..., None]), torch.from_numpy(numbers).long())


def read_idx(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The bytes in a compressed IDX file, (n, *shape) uint8 with n of 1 or more.

    No more is unpacked than the header states.

    Args:
        path: of the file.
        shape: of one item.

    Raises:
        UserError: if the file is broken or contains something else.
    """
    try:
        with gzip.open(path) as stream:
            if stream.read(4) != bytes([0, 0, BYTES, 1 + len(shape)]):
                raise ValueError(f"it is no IDX file of bytes in {1 + len(shape)} dimensions")
            count, *own = struct.unpack(f">{1 + len(shape)}I", stream.read(4 * (1 + len(shape))))
            if tuple(own) != shape or not count:
                raise ValueError(f"its sizes are {[count, *own]}, not {['n', *shape]}")
            size = count * math.prod(shape)
            most = MOST_UNPACKED * path.stat().st_size  # memory for more is not asked for
            content = stream.read(min(size, most) + 1)
    except (OSError, EOFError, zlib.error, struct.error, ValueError) as error:
        raise _broken(path, str(error)) from error
    if len(content) != size:
        what = "less" if len(content) < size else "more"
        raise _broken(path, f"it holds {what} than the {size:,} bytes that its header states")
    return np.frombuffer(bytearray(content), np.uint8).reshape(count, *shape)


def _broken(path: Path, why: str) -> UserError:
    return UserError(f"{path} cannot be read ({why}); download the file again")
