import numpy as np
import pytest

from densenet_cli.data.splits import hold_out, stratified
from densenet_cli.options import OptionError

LABELS = np.repeat([0, 1, 2, 3], [100, 50, 10, 1])


@pytest.mark.parametrize("images", [0, 1, 2, 16, 80, 159, 160])
def test_splits_share_nothing_and_miss_nothing(images):
    kept, aside = stratified(LABELS, images)
    assert len(aside) == images
    assert sorted([*kept, *aside]) == list(range(len(LABELS)))
    assert list(kept) == sorted(kept)


def test_each_class_gives_its_share():
    _, aside = stratified(LABELS, 32)
    assert list(np.bincount(LABELS[aside], minlength=4)) == [20, 10, 2, 0]


@pytest.mark.parametrize("images", [1, 16, 80, 150])
def test_rounding_leaves_every_class_an_image(images):
    kept, _ = stratified(LABELS, images)
    assert set(LABELS[kept]) == {0, 1, 2, 3}


def test_the_same_images_are_chosen_every_time_and_not_the_first_ones():
    first, second = stratified(LABELS, 32), stratified(LABELS, 32)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert list(stratified(np.zeros(9, int), 4)[1]) == [2, 3, 4, 7]  # RandomState(20170125)
    assert list(first[1][:20]) != list(range(20))


def test_an_image_with_several_labels_counts_as_of_its_rarest_one():
    chance = np.random.RandomState(0)
    labels = (chance.random_sample((400, 3)) < (0.6, 0.3, 0.05)).astype(np.float32)
    kept, aside = stratified(labels, 100)
    assert sorted([*kept, *aside]) == list(range(400))
    assert labels[aside][:, 2].sum() == pytest.approx(labels[:, 2].sum() / 4, abs=1)
    labels[labels[:, 0] == 0, 0] = np.nan  # not known: the same split
    assert np.array_equal(stratified(labels, 100)[1], aside)
    labels = np.nan_to_num(labels)
    without = (labels[aside].sum(1) == 0).sum()
    assert without == pytest.approx((labels.sum(1) == 0).sum() / 4, abs=1)


def test_shuffled_labels_give_the_same_proportions():
    shuffled = np.random.RandomState(1).permutation(LABELS)
    _, aside = stratified(shuffled, 32)
    assert list(np.bincount(shuffled[aside], minlength=4)) == [20, 10, 2, 0]


def test_one_training_image_must_be_left():
    assert len(hold_out(LABELS, 160)[0]) == 1
    with pytest.raises(OptionError, match=r"validation=161: must leave.*161.*validation=16$"):
        hold_out(LABELS, 161)
