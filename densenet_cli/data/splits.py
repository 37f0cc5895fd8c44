"""Which images are held out. Depends on nothing but the labels, so it is equal in every run.

The seed of a run never moves an image from one split to another: runs that differ only in their
seed are trained and tested on the same images. NumPy promises that RandomState's numbers stay the
same in all its versions.
"""

from __future__ import annotations

import numpy as np

from densenet_cli.options import OptionError

SPLIT_SEED = 20170125


def hold_out(labels: np.ndarray, validation: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices, ascending, of the images to train on and of the `validation` held-out ones.

    Args:
        labels: class of each training image, (n,).
        validation: how many to hold out.

    Raises:
        OptionError: if no training image would be left.
    """
    images = len(labels)
    if validation >= images:
        rule = f"must leave at least one of the {images} training images to train on"
        raise OptionError("validation", validation, rule, images // 10)
    return stratified(labels, validation)


def stratified(labels: np.ndarray, images: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices, ascending, of the kept and of the `images` set-aside images: alike in their classes.

    Each class gives its proportion, rounded such that the sum is `images` (largest remainders);
    where rounding has a choice, no class gives its last image.

    Args:
        labels: class of each image, (n,).
        images: how many to set aside, less than n.
    """
    shuffle = np.random.RandomState(SPLIT_SEED)
    _, counts = np.unique(labels, return_counts=True)
    shares = counts * images / len(labels)
    quotas = np.floor(shares).astype(int)
    preference = np.lexsort((quotas - shares, quotas + 1 >= counts))
    quotas[preference[: images - quotas.sum()]] += 1
    by_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    aside = np.zeros(len(labels), dtype=bool)
    for members, quota in zip(by_class, quotas, strict=True):
        aside[shuffle.permutation(members)[:quota]] = True
    return np.flatnonzero(~aside), np.flatnonzero(aside)
