"""Images that cannot be read are skipped on request, and batches stay as they should be."""

import logging
import os

import numpy as np
import pytest
import torch
from image_folders import fill, folder
from PIL import Image
from training_batches import same, training_batches

from densenet_cli.data import skipped
from densenet_cli.options import UserError

pytestmark = pytest.mark.usefixtures("cache")


def broken(*paths):
    for path in paths:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return [str(path) for path in paths]


def ticket_batches(data, epoch):
    """Images and labels as the loader gives them, before augmentation."""
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return [(images, labels) for images, labels, *_ in loader]


def evaluated(data):
    return [torch.cat(parts) for parts in zip(*data.test_dataloader(), strict=True)]


@pytest.mark.parametrize("workers", [0, 2])
def test_training_has_another_image_of_the_batch_in_its_place(tmp_path, workers, caplog):
    root = fill(tmp_path / "a", 4)
    names = {}
    for place, path in enumerate(sorted((root / "train").glob("*/*.png"))):
        Image.new("RGB", (20, 20), (place * 20, 0, 0)).save(path)
        names[place * 20] = path
    whole = ticket_batches(folder(root), 1)
    lost = broken(root / "train/ant/2.png", root / "train/cat/0.png")
    data = folder(root, skip_broken=True, check=False, num_workers=workers)
    found = ticket_batches(data, 1)
    assert [len(labels) for _, labels in found] == [8, 4]
    for (images, labels), (images_before, labels_before) in zip(found, whole, strict=True):
        red = [int(image[0, 0, 0]) for image in images]
        before = [int(image[0, 0, 0]) for image in images_before]
        good = [row for row, value in enumerate(before) if str(names[value]) not in lost]
        for row, value in enumerate(before):
            place = row if row in good else next((one for one in good if one > row), good[0])
            assert (red[row], labels[row]) == (before[place], labels_before[place]), value
    assert set(data.skipped.found["train"]) == set(lost)
    assert same(ticket_batches(data, 1), found)
    said = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(said) == 2  # one for each image, in both epochs together
    assert f"{lost[0]} is skipped: it cannot be read (" in "\n".join(said)


def test_a_resumed_epoch_skips_the_same(tmp_path):
    root = fill(tmp_path / "a", 8)
    broken(*(root / "train/ant").glob("[1-3].png"), root / "train/cat/0.png")
    options = {"skip_broken": True, "check": False}
    expected = training_batches(folder(root, **options), 2)
    data = folder(root, **options)
    data.resume_at(2, 1)
    assert same(training_batches(data, 2), expected[1:])


@pytest.mark.parametrize("workers", [0, 2])
def test_skipped_images_are_counted_under_random_operations_too(tmp_path, workers):
    root = fill(tmp_path / "a", 8)
    lost = broken(*(root / "train/ant").glob("[1-3].png"))
    options = {"check": False, "num_workers": workers, "randaugment": 9}
    data = folder(root, skip_broken=True, **options)
    assert len(list(data.train_dataloader())) == 3
    assert set(data.skipped.found["train"]) == set(map(str, lost))


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_has_a_label_that_does_not_count(tmp_path, workers):
    root = fill(tmp_path / "a", 3)  # batches of 8 and 1
    images, labels = evaluated(folder(root))
    lost = broken(root / "test/ant/2.png", root / "test/cat/2.png")
    data = folder(root, skip_broken=True, check=False, num_workers=workers)
    found, kept = evaluated(data)
    is_there = torch.tensor([index not in (2, 8) for index in range(9)])
    assert kept.tolist() == [0, 0, -1, 1, 1, 1, 2, 2, -1]
    assert torch.equal(found[is_there], images[is_there])
    assert torch.equal(kept[is_there], labels[is_there])
    assert set(data.skipped.found["test"]) == set(lost)
    some, truth = data.some_test_images(9)
    assert torch.equal(some, data._contents.test[np.array([[i, 0] for i in range(9)])][0][is_there])
    assert truth.tolist() == [0, 0, 1, 1, 1, 2, 2]


def test_a_batch_without_any_image_is_an_error(tmp_path):
    root = fill(tmp_path / "a", 3)
    broken(*(root / "test").glob("*/*.png"))
    data = folder(root, skip_broken=True, check=False)
    with pytest.raises(
        UserError, match=r"none of the 8 images of a batch can be read; the last one is "
    ):
        list(data.test_dataloader())
    broken(*(root / "train").glob("*/*.png"))
    with pytest.raises(
        UserError, match=r"none of the 8 images of a batch can be read; the last one is "
    ):
        list(data.train_dataloader())


def test_what_is_no_fault_of_an_image_is_not_skipped(tmp_path, monkeypatch):
    root = fill(tmp_path / "a", 3)
    dangling = root / "test" / "ant" / "9.png"
    dangling.symlink_to(root / "nowhere.png")
    data = folder(root, skip_broken=True, check=False)
    assert len(list(data.test_dataloader())) == 2
    assert set(data.skipped.found["test"]) == {str(dangling)}
    (root / "test" / "bee" / "1.png").unlink()  # a disk that is gone, for example
    with pytest.raises(UserError, match=r"bee/1.png cannot be read \(No such file .*delete it$"):
        list(data.test_dataloader())


def test_images_with_too_many_pixels_are_skipped_too(tmp_path):
    root = fill(tmp_path / "a", 3)
    Image.new("RGB", (50, 40)).save(root / "test" / "ant" / "0.png")
    data = folder(root, skip_broken=True, check=False, max_pixels=1000)
    assert evaluated(data)[1].tolist()[0] == -1
    assert data.skipped.found["test"] == {str(root / "test/ant/0.png"): "has 2,000 pixels"}


def test_the_check_warns_of_what_will_be_skipped(tmp_path, caplog):
    root = fill(tmp_path / "a", 3)
    (lost,) = broken(root / "train" / "ant" / "1.png")
    for name in ("train", "test"):  # which are no equal images
        os.symlink(root / "nowhere.png", root / name / "bee" / "9.png")
    for check in ("quick", "full"):
        caplog.clear()
        folder(root, skip_broken=True, check=check)
        (said,) = [record.message for record in caplog.records if record.levelno == logging.WARNING]
        assert said.startswith(f"3 of 20 images of {root} are broken; they are skipped:\n  {lost}: ")


def test_the_remedy_is_named(tmp_path):
    root = fill(tmp_path / "a", 3)
    broken(root / "test" / "ant" / "1.png")
    remedy = "repair or delete it, or type data.skip_broken=true"
    with pytest.raises(UserError, match=rf"ant/1.png cannot be read \(.*\); {remedy}$"):
        list(folder(root, check=False).test_dataloader())


def test_warnings_end_after_some(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(skipped, "NAMED", 2)
    root = fill(tmp_path / "a", 5)
    broken(*(root / "train/ant").glob("*.png"))
    data = folder(root, check=False, skip_broken=True)
    list(data.train_dataloader())
    said = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(said) == 3
    assert said[2] == "more images are skipped; skipped.json names all of them"
    assert len(data.skipped.found["train"]) == 5
