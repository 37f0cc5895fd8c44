"""Groups of images, such as patients, stay on one side of a split, and labels in proportion."""

import numpy as np
import pytest
from sklearn.model_selection import StratifiedGroupKFold

from densenet_cli.data.splits import stratified_groups


def patients(images, classes=4, seed=0):
    """Labels (n, classes) of very different frequency, and groups of 1 to 40 images."""
    chance = np.random.RandomState(seed)
    sizes = np.minimum(40, chance.geometric(0.3, images))
    groups = np.repeat(np.arange(images), sizes)[:images]
    frequent = np.array([0.5, 0.2, 0.05, 0.02])[:classes]
    tendency = chance.random_sample((images, classes))  # images of a patient are alike
    own = chance.random_sample((images, classes))
    return (0.7 * tendency[groups] + 0.3 * own) < frequent, groups


def deviation(present, aside):
    """The largest deviation of a label's share among images set aside, in standard errors."""
    expected = present.mean(0)
    found = present[aside].mean(0)
    return np.abs((found - expected) / np.sqrt(expected * (1 - expected) / len(aside))).max()


@pytest.mark.parametrize("images", [1, 37, 400])
def test_groups_stay_whole_and_the_number_is_exact(images):
    present, groups = patients(2000)
    kept, aside = stratified_groups(present, groups, images)
    assert sorted([*kept, *aside]) == list(range(2000))
    assert not set(groups[kept]) & set(groups[aside])
    assert len(aside) == images


@pytest.mark.filterwarnings("ignore:The least populated class")
@pytest.mark.parametrize("seed", range(3))
def test_labels_keep_their_shares_as_well_as_in_scikit_learn(seed):
    present, groups = patients(2000, seed=seed)
    _, aside = stratified_groups(present, groups, 400)
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    classes = present @ (1 << np.arange(4))
    theirs = [test for _, test in folds.split(present, classes, groups)]
    assert deviation(present, aside) < np.mean([deviation(present, test) for test in theirs])
    assert deviation(present, aside) < 1


def test_a_label_of_one_group_alone_stays_in_training():
    present, groups = patients(300)
    present[:, 3] = groups == groups[150]
    kept, _ = stratified_groups(present, groups, 150)
    assert present[kept, 3].sum() == present[:, 3].sum()


def test_the_split_does_not_depend_on_the_numbers_of_the_groups():
    present, groups = patients(500)
    others = np.random.RandomState(3).permutation(1000)[groups]
    np.testing.assert_array_equal(
        stratified_groups(present, groups, 100)[1], stratified_groups(present, others, 100)[1]
    )


def test_too_large_groups_are_as_near_as_can_be():
    groups = np.repeat(np.arange(5), 10)
    present = np.ones((50, 1), dtype=bool)
    assert len(stratified_groups(present, groups, 14)[1]) == 10
    assert len(stratified_groups(present, groups, 4)[1]) == 0
