"""The colours of training images, which are counted once and then known."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterable

import torch
from torch import Tensor

from densenet_cli.data.colour_statistics import value_counts
from densenet_cli.data.image_check import kept_numbers

log = logging.getLogger(__name__)


def measured_counts(root: object, facts: str, batches: Iterable[Tensor], images: int) -> Tensor:
    """The count of each value in each channel of all images: (C, 256) int64.

    The user's cache folder keeps it: a million photos take an hour, and each run of a sweep, each of
    its processes and each resume needs it. One process counts; the others wait for its result.

    Args:
        root: the folder of the images as the user typed it.
        facts: text that is another one when the images or their sizes are others.
        batches: the images, (n, H, W, C) uint8; they are read only if need be.
        images: the number of images.
    """
    kind = "-colours-" + hashlib.sha256(facts.encode()).hexdigest()[:16]
    with kept_numbers(root, kind) as (kept, keep):
        if len(kept) > 0 and len(kept) % 256 == 0:
            return torch.from_numpy(kept.astype("int64")).view(-1, 256)
        log.info("measuring the colours of %d training images", images)
        counts, done, last_log = torch.zeros((), dtype=torch.int64), 0, time.monotonic()
        for batch in batches:
            counts = counts + value_counts(batch)
            done += len(batch)
            if time.monotonic() > last_log + 10:
                last_log = time.monotonic()
                log.info("measured the colours of %d of %d images", done, images)
        keep(counts.numpy().astype("uint64").ravel())
        return counts
