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


def stratified_groups(
    present: np.ndarray, groups: np.ndarray, images: int
) -> tuple[np.ndarray, np.ndarray]:
    """As `stratified`, of images in groups that stay whole, as those of one patient.

    The second part has `images` images if the groups allow it. Groups are taken in random order, the
    largest first. Each goes to the part that makes the shares of all labels, of those groups that were
    taken so far, most alike; no label goes to the second part entirely.

    Args:
        present: whether an image has a label: (n, classes) bool.
        groups: (n,), the same number for images of one group.
        images: the size of the second part, less than n.
    """
    _, first, numbers, sizes = np.unique(
        groups, return_index=True, return_inverse=True, return_counts=True
    )
    counts = np.zeros(
        (len(sizes), present.shape[1] + 1)
    )  # of each group: images with each label, and all
    np.add.at(counts, numbers, np.column_stack([present, np.ones(len(present))]))
    totals = counts.sum(axis=0)
    share, weights = images / len(groups), 1 / np.maximum(totals, 1)
    aside, taken, is_aside = np.zeros_like(totals), np.zeros_like(totals), np.zeros(len(sizes), bool)
    shuffled = np.random.RandomState(SPLIT_SEED).permutation(np.argsort(first))
    for group in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
        own = counts[group]
        taken += share * own
        is_better = own @ (weights * (own + 2 * (aside - taken))) < 0
        if is_better and not _takes_all(own, aside, totals):
            is_aside[group] = True
            aside += own
    _complete(is_aside, counts, aside, images, weights)
    chosen = is_aside[numbers]
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def _takes_all(own: np.ndarray, aside: np.ndarray, totals: np.ndarray) -> bool:
    """Whether the second part would have all images with some label if this group were added to it."""
    return bool(((aside + own >= totals) & (own > 0)).any())


def _complete(
    is_aside: np.ndarray, counts: np.ndarray, aside: np.ndarray, images: int, weights: np.ndarray
) -> None:
    """Move the groups that change the shares of labels least, until the second part has its size."""
    totals, sizes = counts.sum(axis=0), counts[:, -1]
    wanted = totals * images / totals[-1]
    while gap := round(images - aside[-1]):
        sign = np.sign(gap)
        costs = (counts * (weights * (counts + 2 * sign * (aside - wanted)))).sum(axis=1)
        movable = (is_aside if gap < 0 else ~is_aside) & (sizes <= abs(gap))
        if gap > 0:
            movable &= ~((aside + counts >= totals) & (counts > 0)).any(axis=1)
        if not movable.any():
            return
        group = int(np.where(movable, costs, np.inf).argmin())
        is_aside[group] = gap > 0
        aside += sign * counts[group]


def stratified(labels: np.ndarray, images: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices, in ascending order, of two parts of the images; the second has `images` images.

    Each class gives its share to the second part. The shares are rounded so that their sum is `images`
    (largest remainder method), and so that no class gives its last image if that can be avoided.

    Args:
        labels: class of each image, (n,); or (n, classes) of 0, 1 and NaN (not known), if an image can
            have several labels: it then counts as of its rarest one.
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
    labels = np.nan_to_num(labels)
    counts = labels.sum(0)
    images_with = np.where(labels > 0, counts, np.inf)
    return np.where(labels.any(1), images_with.argmin(1), labels.shape[1])
