"""The order of the images: order and augmentation of an epoch depend only on (seed, epoch).

So a resumed run sees the same batches as an uninterrupted one, and R processes together see exactly the
batches that one process would see, with the same augmentation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import Sampler

from densenet_cli.options import OptionError, UserError

Tickets = np.ndarray
"""(n, 2) int64, one row per image: its index, and its draw, 63 random bits for its augmentation."""


class EpochOrder(Sampler[Tickets]):
    """The shuffled training batches of an epoch; each item is this rank's part of one batch.

    Rank r of R takes rows r, r + R, ... of each whole batch. The smaller last batch is kept, but cut to
    a multiple of R: at most R - 1 images are left out, other ones in each epoch. With `drop_last` there
    is no smaller batch, and its images, other ones in each epoch, are left out.

    Args:
        images: the number of images; tickets count them from 0.
        batch_size: images in a batch, over all ranks together; a multiple of world_size.
        seed: 0 or more.
        rank: of this process, from 0.
        world_size: R, the number of processes that share a batch.
        drop_last: whether to leave out a last batch with fewer images.

    Raises:
        OptionError: if the batch cannot be shared evenly, or no batch is left.
        UserError: if there are fewer images than ranks.
    """

    def __init__(
        self,
        images: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
    ) -> None:
        _images_per_rank(images, batch_size, world_size)
        if drop_last and images < batch_size:
            rule = f"leaves no batch of {batch_size} images, since there are {images} to train on"
            raise OptionError("drop_last", True, rule, False)
        left_out = images % batch_size if drop_last else images % batch_size % world_size
        self.images = images - left_out
        self.batch_size, self.seed = batch_size, seed
        self.rank, self.world_size = rank, world_size
        self.total = images
        self.epoch = 0
        self._start = (0, 0)

    @property
    def last(self) -> int:
        """This rank's images in the last batch of an epoch."""
        return ((self.images - 1) % self.batch_size + 1) // self.world_size

    @property
    def largest(self) -> int:
        """This rank's images in a batch, at most."""
        return self.batch_size // self.world_size

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration, from 0. Lightning calls this before every epoch."""
        self.epoch = epoch

    def start_at(self, epoch: int, batch: int) -> None:
        """Start epoch `epoch` at batch `batch`; all other epochs start at batch 0."""
        assert 0 <= batch <= len(self), f"batch {batch} of an epoch of {len(self)}"
        self._start = (epoch, batch)
        self.epoch = epoch

    def __len__(self) -> int:
        """Batches in a whole epoch, wherever the next iteration starts."""
        return -(-self.images // self.batch_size)

    def __iter__(self) -> Iterator[Tickets]:
        generator = torch.Generator().manual_seed(mixed(self.seed, self.epoch))
        order = torch.randperm(self.total, generator=generator)
        draws = torch.randint(2**63 - 1, (self.total,), generator=generator)
        tickets = torch.stack([order, draws], dim=1).numpy()
        start_epoch, start_batch = self._start
        first = start_batch if self.epoch == start_epoch else 0
        for batch in range(first, len(self)):
            begin = batch * self.batch_size
            end = min(begin + self.batch_size, self.images)
            yield tickets[begin + self.rank : end : self.world_size]


class EvaluationOrder(Sampler[Tickets]):
    """Every image once, in order: rank r of R takes images r, r + R, ...; all draws are 0.

    All ranks have the same number of batches: a rank with more would wait for the others forever. So
    the last batch of a rank may have one image more than its share.

    Args and Raises: as EpochOrder.
    """

    def __init__(self, images: int, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        self.share = _images_per_rank(images, batch_size, world_size)
        self.largest = self.share + 1  # images in a batch, at most
        self.batches = -(-(images // world_size) // self.share)
        self.mine = np.arange(rank, images, world_size)

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[Tickets]:
        tickets = np.stack([self.mine, np.zeros_like(self.mine)], axis=1)
        for batch in range(self.batches):
            last = batch == self.batches - 1
            begin, end = batch * self.share, None if last else (batch + 1) * self.share
            yield tickets[begin:end]


def mixed(seed: int, epoch: int) -> int:
    """64 bits that are unrelated for different (seed, epoch).

    With seed + epoch instead, seed 1 would have the epochs of seed 0, one later.
    """
    digest = hashlib.sha256(f"{seed} {epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "little")


def _images_per_rank(images: int, batch_size: int, world_size: int) -> int:
    """One rank's share of a batch. Raises OptionError or UserError if it cannot be divided."""
    if batch_size % world_size:
        raise OptionError(
            "batch_size",
            batch_size,
            f"must be a multiple of {world_size}, the number of devices that share it",
            batch_size + world_size - batch_size % world_size,
        )
    if images < world_size:
        raise UserError(f"{images} images cannot be shared by {world_size} devices")
    return batch_size // world_size
