"""Which folders are splits and which are classes."""

import logging
import os

import numpy as np
import pytest
from image_folders import assert_refused, fill, folder, names, write

from densenet_cli.options import OptionError

pytestmark = pytest.mark.usefixtures("cache")


def test_train_and_test_folders(tmp_path):
    data = folder(fill(tmp_path / "a", 4))
    assert data.class_names == ["ant", "bee", "cat"]
    assert (data.num_classes, data.image_size) == (3, (16, 16))
    assert data.sizes == {"train": 12, "validation": 0, "test": 12}
    assert data.evaluation_split == "test"
    assert names(data._contents.test)[5] == "test/bee/1.png"
    assert data._contents.test.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4


@pytest.mark.parametrize("name", ["val", "validation", "Valid"])
def test_a_validation_folder_alone_is_the_test_set(tmp_path, name, caplog):
    caplog.set_level(logging.INFO)
    data = folder(fill(tmp_path / "a", 4, splits=("train", name)))
    assert data.sizes == {"train": 12, "validation": 0, "test": 12}
    assert f"the images of {tmp_path / 'a' / name} are the test images" in caplog.text


def test_three_folders_are_the_three_splits(tmp_path):
    root = fill(tmp_path / "a", 2, splits=("train", "val", "test"))
    write(root / "val" / "ant" / "more.png")
    data = folder(root)
    assert data.sizes == {"train": 6, "validation": 7, "test": 6}
    assert data.evaluation_split == "validation"
    with pytest.raises(
        OptionError, match=r"validation=2: must be 0: the held-out images are those of .*/val"
    ):
        folder(root, validation=2)


def test_held_out_images_have_equal_shares_of_all_classes(tmp_path):
    data = folder(fill(tmp_path / "a", 10), validation=6, seed=1)
    assert data.sizes == {"train": 24, "validation": 6, "test": 30}
    assert data._contents.validation.labels.tolist() == [0, 0, 1, 1, 2, 2]
    other = folder(tmp_path / "a", validation=6, seed=2)
    assert names(other._contents.validation) == names(data._contents.validation)
    assert not set(names(data._contents.train)) & set(names(data._contents.validation))


def test_class_folders_alone_are_split_the_same_way_every_time(tmp_path):
    root = fill(tmp_path / "a", 10, splits=("",))
    data = folder(root, seed=1, test_fraction=0.3, validation=3)
    assert data.sizes == {"train": 18, "validation": 3, "test": 9}
    assert np.bincount(data._contents.test.labels).tolist() == [3, 3, 3]
    other = folder(root, seed=2, test_fraction=0.3, validation=3)
    for split in ("train", "validation", "test"):
        assert names(getattr(other._contents, split)) == names(getattr(data._contents, split))


def test_a_class_may_be_called_train(tmp_path):
    classes = ("apple", "test_tube", "train")
    flat = folder(fill(tmp_path / "flat", 5, classes, splits=("",)))
    assert flat.class_names == list(classes)
    assert flat.sizes == {"train": 12, "validation": 0, "test": 3}
    split = folder(fill(tmp_path / "split", 4, classes))
    assert split.class_names == list(classes)
    assert split.sizes == {"train": 12, "validation": 0, "test": 12}
    assert names(split._contents.test)[-1] == "test/train/3.png"
    nested = fill(tmp_path / "nested", 4, classes)
    write(nested / "test" / "apple" / "train" / "deep.png")
    assert folder(nested).sizes == {"train": 12, "validation": 0, "test": 13}


def test_a_train_folder_alone_is_split_itself(tmp_path):
    data = folder(fill(tmp_path / "a", 5, splits=("train",)))
    assert data.sizes == {"train": 12, "validation": 0, "test": 3}


def test_classes_with_similar_names_are_reported(tmp_path, caplog):
    root = fill(tmp_path / "a", 2, ("ant", "Ant", "a\u00f1o", "an\u0303o"), ("",))
    assert folder(root).num_classes == 4
    assert "Ant and ant are different classes with similar names" in caplog.text
    assert "an\u0303o and a\u00f1o are different classes" in caplog.text


def test_missing_or_ambiguous_folders_are_refused(tmp_path):
    assert_refused(tmp_path / "none", "root=.*none: is not a folder")
    write(tmp_path / "file.png")
    assert_refused(tmp_path / "file.png", "is not a folder")
    assert_refused(tmp_path / "cache", "is not a folder")
    (tmp_path / "empty").mkdir()
    assert_refused(tmp_path / "empty", "needs two class folders or more in .*empty, which has 0")
    assert_refused(
        fill(tmp_path / "one", 2, ("ant",), ("",)), "needs two class folders or more.* has 1"
    )
    fill(tmp_path / "above" / "photos", 2)
    assert_refused(tmp_path / "above", "has 1; for example root=.*above/photos")
    fill(tmp_path / "untrained", 2, splits=("val", "test"))
    assert_refused(tmp_path / "untrained", "has test and val, but no folder train")
    fill(tmp_path / "twice", 2, splits=("train", "val", "validation"))
    assert_refused(tmp_path / "twice", "has two folders for one split: val and validation")


def test_classes_that_training_does_not_have_are_named(tmp_path):
    root = fill(tmp_path / "a", 2)
    write(root / "test" / "dog" / "0.png")
    write(root / "test" / "eel" / "0.png")
    assert_refused(root, r"has classes in .*test that train does not have: dog, eel")


def test_classes_without_images_are_named(tmp_path):
    root = fill(tmp_path / "a", 2)
    for name in ("dog", "eel"):
        (root / "train" / name).mkdir()
    assert_refused(root, r"has no image in .*train for 2 of 5 classes: dog, eel")
    root = fill(tmp_path / "b", 2, ("ant", "bee", "cat"), ("train",))
    fill(root, 2, ("ant",), ("test",))
    assert_refused(root, r"has no image in .*test for 2 of 3 classes: bee, cat")


def test_the_root_is_shown_as_it_was_typed(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    fill(tmp_path / "flat", 2, splits=("",))
    (tmp_path / "flat" / "dog").mkdir()
    for typed in ("flat", "flat/", "./flat", "~/flat", f"{tmp_path}//flat/../flat"):
        with pytest.raises(OptionError) as caught:
            folder(typed)
        assert caught.value.value == typed
        assert str(caught.value).startswith(f"root={typed}: has no image in ")
        assert str(caught.value).endswith("flat for 1 of 4 classes: dog")


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    root = fill(tmp_path / "a", 2)
    (root / "train" / "ant" / "deep").mkdir()
    real = os.scandir

    def scandir(path):
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)  # root may read all
    assert_refused(root, f"root={root}: {root}/train/ant/deep cannot be read .Permission denied.")
