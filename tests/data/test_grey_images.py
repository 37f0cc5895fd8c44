"""Images of one channel: what is read of files, and how they are augmented and normalised."""

import numpy as np
import pytest
import torch
from image_folders import fill, folder
from PIL import Image

from densenet_cli.data import photo
from densenet_cli.data.augmentation import Scale, crop, flip_half, framed
from densenet_cli.data.colour_statistics import LUMA
from densenet_cli.options import OptionError

pytestmark = pytest.mark.usefixtures("cache")
WEIGHTS = torch.tensor(LUMA)
CPU = torch.device("cpu")


def random_draws(count):
    return torch.randint(2**63 - 1, (count,), generator=torch.Generator().manual_seed(0))


def test_a_colour_photo_becomes_the_luma_of_pillow(tmp_path):
    pixels = np.random.RandomState(0).randint(0, 256, (20, 20, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    grey = photo.centre_crop(tmp_path / "a.png", 20, 1.0, channels=1)
    assert grey.shape == (20, 20, 1)
    assert np.array_equal(grey[..., 0], Image.fromarray(pixels).convert("L"))
    exact = (torch.from_numpy(pixels).double() @ WEIGHTS.double()).numpy()
    assert np.abs(grey[..., 0].numpy() - exact).max() <= 0.51


@pytest.mark.parametrize("mode", ["L", "LA", "P", "I;16", "1"])
def test_grey_files_keep_their_levels(tmp_path, mode):
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    if mode == "1":
        levels = np.where(levels > 100, 255, 0).astype(np.uint8)
    image = Image.fromarray(levels).convert(mode) if mode != "I;16" else None
    image = image or Image.fromarray(levels.astype(np.uint16) * 257)
    image.save(tmp_path / "a.png")
    assert np.array_equal(photo.centre_crop(tmp_path / "a.png", 16, 1.0, channels=1)[..., 0], levels)


def test_crops_and_ten_crops_of_one_channel_are_those_of_each_equal_colour(tmp_path):
    levels = np.random.RandomState(0).randint(0, 256, (40, 30)).astype(np.uint8)
    Image.fromarray(levels).save(tmp_path / "a.png")
    for crop_of in (photo.centre_crop, photo.ten_crops):
        grey, colour = (crop_of(tmp_path / "a.png", 16, channels=channels) for channels in (1, 3))
        assert torch.equal(grey.expand_as(colour), colour)


@pytest.mark.parametrize("normalise", ["imagenet", "mean_std", "scale"])
@pytest.mark.parametrize("augment", [True, False])
def test_grey_batches_are_the_luma_of_colour_batches(tmp_path, normalise, augment):
    """The augmented grey level is the luma of the augmented colours, but for rounding to bytes."""
    root = fill(tmp_path / "a", 4)
    for path in root.rglob("*.png"):  # no colour is cut off at 0 or 255 when it is resized
        Image.open(path).point(lambda value: 100 + value // 6).save(path)
    batches = []
    for channels in (3, 1):
        data = folder(root, channels=channels, normalise=normalise, augment=augment)
        images, labels = data.complete(next(iter(data.train_dataloader())))
        assert images.shape == (8, channels, 16, 16)
        mean, std = (torch.tensor(data.statistics[name]).view(-1, 1, 1) for name in ("mean", "std"))
        assert len(mean) == channels
        batches.append((images * std + mean, labels))
    (colour, labels), (grey, same) = batches
    assert torch.equal(labels, same)
    luma = torch.einsum("nchw,c->nhw", colour, WEIGHTS)
    torch.testing.assert_close(grey[:, 0], luma, atol=1.6 * 1.4**2 / 255, rtol=0)


def test_measured_grey_statistics_make_mean_zero_and_std_one(tmp_path):
    data = folder(fill(tmp_path / "a", 4), channels=1, normalise="mean_std", augment=False)
    images = torch.cat([data.complete(batch)[0] for batch in data.train_dataloader()]).double()
    assert images.mean().item() == pytest.approx(0, abs=1e-5)
    assert images.std(correction=0).item() == pytest.approx(1, abs=1e-5)


def test_imagenets_mean_grey_level_is_the_luma_of_its_mean_colour(tmp_path):
    data = folder(fill(tmp_path / "a", 2), channels=1)
    assert data.statistics["mean"] == [pytest.approx(0.299 * 0.485 + 0.587 * 0.456 + 0.114 * 0.406)]
    assert 0.224 <= data.statistics["std"][0] <= 0.229


def test_shifts_and_mirroring_are_those_of_each_equal_colour():
    grey = torch.randint(0, 256, (50, 8, 9, 1), dtype=torch.uint8)
    draws, found = random_draws(50), []
    for images in (grey, grey.expand(-1, -1, -1, 3).contiguous()):
        channels = images.shape[3]
        scale = Scale.of({"mean": [0.4] * channels, "std": [0.3] * channels}, 9, CPU)
        mirrored = flip_half(images, draws)
        zeros = crop(scale.normalised(mirrored, 2), draws, 2)
        found.append((zeros, crop(framed(scale.normalised(mirrored), 2, "reflect"), draws, 2)))
    for one, three in zip(*found, strict=True):
        assert one.shape == (50, 8, 9, 1)
        assert torch.equal(one.expand_as(three), three)


@pytest.mark.parametrize("channels", [0, 2, 4, True, 1.0, "grey"])
def test_a_folder_is_read_in_three_channels_or_one(tmp_path, channels):
    with pytest.raises(OptionError, match=r"channels=.*: must be .*; for example channels=3"):
        folder(tmp_path, channels=channels)
