"""Which images are held out. This depends only on the labels, so it is the same in every run.

Runs that differ only in the seed are trained and tested on the same images. NumPy guarantees that the
numbers of RandomState are the same in all versions.
"""

from __future__ import annotations

import numpy as np

from densenet_cli.options import OptionError

SPLIT_SEED = 20170125


def hold_out(labels: np.ndarray, validation: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices, in ascending order, of the training images and of the `validation` held-out images.

    Args:
        labels: of the training images, as `stratified` takes them.
        validation: the number of images to hold out.

    Raises:
        OptionError: if no training image would be left.
    """
    images = len(labels)
    if validation >= images:
        rule = f"must leave at least one of the {images} training images to train on"
        raise OptionError("validation", validation, rule, images // 10)
    return stratified(labels, validation)


def hold_out_per_class(
    labels: np.ndarray, parts: dict[str, int], shares: dict[str, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Indices, in ascending order, of the training images and of the held-out images.

    Args:
        labels: class of each training image, (n,).
        parts: the images of each part of the training images, by name; one part follows the other.
        shares: of each part, how many images of each class are held out.

    Raises:
        OptionError: if a part has no more images of a class than are to be held out.
    """
    shuffle, held_out, begin = np.random.RandomState(SPLIT_SEED), [], 0
    for name, images in parts.items():
        own, share = labels[begin : begin + images], shares[name]
        for label in np.unique(labels):
            members = begin + np.flatnonzero(own == label)
            if len(members) <= share:
                rule = f"takes {share} of each class of {name}, where one has {len(members)}"
                raise OptionError("hold_out", "per_class", rule, "proportional")
            held_out.append(shuffle.permutation(members)[:share])
        begin += images
    aside = np.zeros(len(labels), dtype=bool)
    aside[np.concatenate(held_out)] = True
    return np.flatnonzero(~aside), np.flatnonzero(aside)


def stratified(labels: np.ndarray, images: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices, in ascending order, of two parts of the images; the second has `images` images.

    Each class gives its share to the second part. The shares are rounded so that their sum is `images`
    (largest remainder method), and so that no class gives its last image if that can be avoided.

    Args:
        labels: class of each image, (n,); or (n, classes) of 0 and 1, if an image can have several
            labels: it then counts as of its rarest one.
        images: the size of the second part, less than n.
    """
    shuffle = np.random.RandomState(SPLIT_SEED)
    if labels.ndim == 2:
        labels = _rarest(labels)
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


def _rarest(labels: np.ndarray) -> np.ndarray:
    """The label of each image that the fewest images have; images without labels are a class too."""
    counts = labels.sum(0)
    images_with = np.where(labels > 0, counts, np.inf)
    return np.where(labels.any(1), images_with.argmin(1), labels.shape[1])
