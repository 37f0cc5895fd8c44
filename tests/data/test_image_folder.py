"""The batches of a folder of images: sizes, augmentation, statistics, options."""

import pytest
import torch
from image_folders import fill, folder, write
from training_batches import same, training_batches

from densenet_cli.data import measured_colours
from densenet_cli.data.augmentation import affine, colour_jitter, lighting, mean_grey
from densenet_cli.data.colour_statistics import IMAGENET
from densenet_cli.data.image_folder import ImageFolder
from densenet_cli.options import OptionError

pytestmark = pytest.mark.usefixtures("cache")


def test_batches_have_one_size_whatever_the_files_have(tmp_path):
    data = folder(fill(tmp_path / "a", 4))
    for images, labels in data.test_dataloader():
        images, labels = data.on_after_batch_transfer((images, labels), 0)
        assert images.shape == (len(labels), 3, 16, 16)
        assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)


@pytest.mark.parametrize("workers", [0, 2])
def test_augmentation_depends_only_on_seed_and_epoch(tmp_path, workers):
    root = fill(tmp_path / "a", 4)
    expected = training_batches(folder(root), 1)
    data = folder(root, num_workers=workers)
    training_batches(data, 0)
    assert same(training_batches(data, 1), expected)
    assert not same(training_batches(data, 2), expected)
    assert not same(training_batches(folder(root, seed=1), 1), expected)
    plain = folder(root, augment=False)
    assert not same(training_batches(plain, 1), expected)
    assert [labels.tolist() for _, labels in training_batches(plain, 1)] == [
        labels.tolist() for _, labels in expected
    ]


def test_images_are_mirrored_jittered_lit_and_normalised(tmp_path):
    data = folder(fill(tmp_path / "a", 2))
    images = torch.randint(0, 256, (9, 16, 16, 3), dtype=torch.uint8)
    draws = torch.arange(9) * 2**57 + torch.arange(9)
    changed = data.augmented(images, draws)
    mirrored = torch.where((draws & 1).bool().view(-1, 1, 1, 1), images.flip(2), images).float()
    factors, share = colour_jitter(draws)
    pixels = affine(mirrored, factors, share * mean_grey(mirrored).expand(-1, 3)) / 255
    pixels += lighting(draws).view(-1, 1, 1, 3)
    expected = (pixels - torch.tensor(IMAGENET["mean"])) / torch.tensor(IMAGENET["std"])
    torch.testing.assert_close(changed, expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize(("normalise", "mean"), [("imagenet", 0.485), ("scale", 0.0)])
def test_statistics_that_are_not_measured(tmp_path, normalise, mean):
    data = folder(fill(tmp_path / "a", 2), normalise=normalise)
    assert data.statistics["mean"][0] == mean


def test_measured_statistics_are_those_of_training_images_without_augmentation(tmp_path):
    data = folder(fill(tmp_path / "a", 3), normalise="mean_std", validation=3)
    plain = folder(tmp_path / "a", normalise="scale", validation=3, augment=False)
    pixels = torch.cat([images for images, _ in training_batches(plain, 0)]).double()
    assert data.statistics["mean"] == pytest.approx(pixels.mean((0, 2, 3)).tolist(), abs=1e-6)
    expected = pixels.std((0, 2, 3), correction=0).tolist()
    assert data.statistics["std"] == pytest.approx(expected, abs=1e-6)


def test_colours_are_measured_once_until_images_or_sizes_change(tmp_path, monkeypatch):
    root = fill(tmp_path / "a", 3)
    measured = []
    real = measured_colours.value_counts
    monkeypatch.setattr(
        measured_colours, "value_counts", lambda images: measured.append(len(images)) or real(images)
    )
    before = folder(root, normalise="mean_std").statistics
    assert measured == [9]
    assert folder(root, normalise="mean_std", seed=1, batch_size=3).statistics == before
    assert measured == [9]
    for options in ({"image_size": 20}, {"antialias": False}, {"channels": 1}, {"validation": 3}):
        measured.clear()
        assert folder(root, normalise="mean_std", **options).statistics != before
        assert sum(measured) == 9 - options.get("validation", 0)
    write(root / "train" / "ant" / "0.png", 99)
    assert folder(root, normalise="mean_std").statistics != before
    (cached, *_) = (tmp_path / "cache").rglob("*-colours-*.npy")
    assert cached.stat().st_size < 10_000


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("image_size", 7, "image_size=7: must be a whole number, 8 or more"),
        ("image_size", None, "image_size=null: must be"),
        ("test_fraction", 1.0, "test_fraction=1.0: must be a number above 0 and below 1"),
        ("check", "no", "check=no: must be one of quick, full, false"),
        ("normalise", "none", "normalise=none: must be one of mean_std, scale, imagenet"),
        ("validation", 12, "validation=12: must leave at least one of the 12 training images"),
    ],
)
def test_an_option_that_breaks_its_rule_is_named(tmp_path, key, value, rule):
    with pytest.raises(OptionError, match=rule) as caught:
        folder(fill(tmp_path / "a", 4), **{key: value})
    assert caught.value.key == key


def test_a_folder_must_be_given():
    with pytest.raises(OptionError, match=r"root=null: must be a folder; for example root=/path"):
        ImageFolder(None, 8)


def test_there_are_at_most_eight_workers_and_one_per_core(tmp_path, monkeypatch):
    monkeypatch.setattr("densenet_cli.data.photo_data.usable_cores", lambda: 64)
    data = folder(fill(tmp_path / "a", 2), num_workers=None)
    assert data.workers() == 8
    monkeypatch.setattr("densenet_cli.data.photo_data.usable_cores", lambda: 3)
    assert data.workers() == 3
    data.num_workers = 0
    assert data.workers() == 0


def test_training_images_can_be_smaller_than_those_of_the_test(tmp_path):
    fill(tmp_path, 6)
    data, plain = folder(tmp_path, train_size=12, normalise="mean_std"), folder(tmp_path, image_size=12)
    assert (data.image_size, data.train_image_size) == ((16, 16), (12, 12))
    crops, labels, draws = next(iter(data.train_dataloader()))
    assert torch.equal(crops, next(iter(plain.train_dataloader()))[0])
    assert data.complete((crops, labels, draws))[0].shape == (8, 3, 12, 12)
    assert data.complete(next(iter(data.test_dataloader())))[0].shape == (8, 3, 16, 16)
