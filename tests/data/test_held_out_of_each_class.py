"""SVHN's held-out images: equally many of each class, of the training and of the extra images."""

import numpy as np
import pytest

from densenet_cli.data.splits import hold_out_per_class
from densenet_cli.data.svhn import Svhn
from densenet_cli.options import OptionError


def test_each_class_gives_400_of_one_part_and_200_of_the_other():
    """The numbers of Huang et al. 2016, svhn-dataset.lua; classes are uneven, as in SVHN."""
    chance = np.random.RandomState(0)
    labels = chance.choice(10, 25_000, p=np.arange(7, 17) / 115)
    parts, shares = {"train": 14_000, "extra": 11_000}, {"train": 400, "extra": 200}
    training, held_out = hold_out_per_class(labels, parts, shares)
    is_proper = held_out < 14_000
    assert np.bincount(labels[held_out[is_proper]]).tolist() == [400] * 10
    assert np.bincount(labels[held_out[~is_proper]]).tolist() == [200] * 10
    assert np.array_equal(np.sort(np.r_[training, held_out]), np.arange(25_000))
    assert np.array_equal(held_out, hold_out_per_class(labels, parts, shares)[1])
    first = np.flatnonzero(labels[:14_000] == 0)[:400]
    assert not np.array_equal(first, held_out[is_proper & (labels[held_out] == 0)])  # by chance


def prepared(root, **options):
    data = Svhn(str(root), 16, download=False, hold_out="per_class", **options)
    data.prepare()
    return data


def test_two_thirds_are_of_the_harder_images(svhn_release):
    """3 of the 30 training images and 5 of the 50 extra ones are of each class."""
    data = prepared(svhn_release, validation=30)
    assert data.sizes == {"train": 50, "validation": 30, "test": 20}
    split = data._contents.validation
    images, labels = split.source.images[split.chosen], split.source.labels[split.chosen]
    assert images[:, 0, 0, 0].tolist() == [1] * 20 + [2] * 10
    assert labels[:20].bincount().tolist() == [2] * 10
    assert labels[20:].bincount().tolist() == [1] * 10
    alone = prepared(svhn_release, validation=20, extra=False)
    assert alone.sizes == {"train": 10, "validation": 20, "test": 20}
    assert prepared(svhn_release, validation=0).sizes["train"] == 80


def test_what_cannot_be_held_out_is_refused(svhn_release):
    with pytest.raises(OptionError, match=r"validation=5000: must be a multiple of 30.*=6000"):
        Svhn(str(svhn_release), validation=5000, hold_out="per_class")
    with pytest.raises(OptionError, match=r"validation=6: must be a multiple of 10.*=4000"):
        Svhn(str(svhn_release), validation=6, hold_out="per_class", extra=False)
    with pytest.raises(OptionError, match="hold_out=class: must be one of proportional, per_class"):
        Svhn(str(svhn_release), hold_out="class")
    message = "hold_out=per_class: takes 400 of each class of the training images, where one has 3"
    with pytest.raises(OptionError, match=message):
        prepared(svhn_release, validation=6000)
