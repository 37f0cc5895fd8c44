"""Normalisation by pixels, against the published algorithms written again in NumPy."""

import numpy as np
import pytest
import torch
from training_batches import same, training_batches

from densenet_cli.data import pixel_statistics
from densenet_cli.data.digits import Digits
from densenet_cli.data.image_folder import ImageFolder
from densenet_cli.data.in_memory import InMemoryData, Labelled
from densenet_cli.options import OptionError


class Coloured(InMemoryData):
    """Random images of 6 x 5 pixels, each with a brightness and contrast of its own; not square."""

    name = "coloured"
    padding = 2

    def arrays(self):
        chance = np.random.RandomState(0)
        pixels = chance.uniform(30, 120, (250, 1, 1, 1)) + chance.normal(0, 20, (250, 6, 5, 3)).cumsum(
            2
        )
        images = torch.from_numpy(pixels.clip(0, 255).astype(np.uint8))
        labels = torch.arange(250) % 2
        return Labelled(images[:200], labels[:200]), Labelled(images[200:], labels[200:]), ["a", "b"]


def coloured(kind, **options):
    data = Coloured(batch_size=16, normalise=kind, **options)
    data.prepare()
    return data


def raw(data):
    """The training images without the held-out ones, and the test images, (n, H, W, 3) of 0..255."""
    train, test = data._contents.train, data._contents.test
    return train.source.images[train.chosen].double().numpy(), test.source.images.double().numpy()


def evaluated(data):
    return torch.cat([data.complete(batch)[0] for batch in data.test_dataloader()]).permute(0, 2, 3, 1)


def gcn(rows):
    """pylearn2.expr.preprocessing.global_contrast_normalize with scale=55."""
    rows = rows - rows.mean(1)[:, None]
    return rows / (np.sqrt((rows**2).sum(1)) / 55)[:, None]


def zca(train, test):
    """pylearn2.datasets.preprocessing.ZCA with filter_bias=0.1, fitted on `train`; plane by plane."""
    planes = [part.transpose(0, 3, 1, 2).reshape(len(part), -1) for part in (train, test)]
    train_rows, test_rows = map(gcn, planes)
    mean = train_rows.mean(0)
    centred = train_rows - mean
    values, vectors = np.linalg.eigh(centred.T @ centred / len(centred) + 0.1 * np.eye(len(mean)))
    white = (test_rows - mean) @ (vectors / np.sqrt(values)) @ vectors.T
    n, height, width, _ = test.shape
    return white.reshape(n, 3, height, width).transpose(0, 2, 3, 1)


@pytest.mark.parametrize("validation", [0, 50])
def test_images_are_normalised_by_the_training_images_alone(validation):
    """Expected: He et al. 2015, sec. 4.2; Huang et al. 2016, cifar-dataset.lua; pylearn2."""
    data = coloured("zca", validation=validation)
    train, test = raw(data)
    assert len(train) == 200 - validation
    expected = {
        "pixel_mean": (test - train.mean(0)) / 255,
        "pixel_mean_std": (test - train.mean(0)) / train.std(ddof=1),
        "zca": zca(train, test),
    }
    for kind, numbers in expected.items():
        found = evaluated(coloured(kind, validation=validation))
        assert found.dtype == torch.float32
        np.testing.assert_allclose(found.numpy(), numbers, atol=2e-5, err_msg=kind)


@pytest.mark.parametrize("kind", pixel_statistics.KINDS)
@pytest.mark.parametrize("border", ["zeros", "reflect"])
def test_images_are_mirrored_and_shifted_after_they_are_normalised(kind, border):
    """As in the code of both papers: a mirrored image is not compared with the unmirrored mean."""
    data = coloured(kind, border=border)
    images, draws = data._contents.train.source.images[:60], torch.arange(60) * 987654321987
    whole = data.scale_on(torch.device("cpu")).normalised(images).numpy()
    mode = "constant" if border == "zeros" else "reflect"
    mirrored = np.where((draws.numpy() & 1)[:, None, None, None] > 0, whole[:, :, ::-1], whole)
    padded = np.pad(mirrored, [(0, 0), (2, 2), (2, 2), (0, 0)], mode=mode)
    for image, draw, found in zip(padded, draws.tolist(), data.augmented(images, draws), strict=True):
        y, x = ((draw >> first & 0xFFFFF) % 5 for first in (1, 21))
        assert np.array_equal(found.numpy(), image[y : y + 6, x : x + 5])


@pytest.mark.parametrize("kind", pixel_statistics.KINDS)
def test_a_checkpoint_gives_the_same_batches_to_the_last_bit(kind, tmp_path):
    data = coloured(kind)
    torch.save({"epoch": 3, "Coloured": data.state_dict()}, tmp_path / "last.ckpt")
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    expected = training_batches(data, 1)
    other = coloured(kind, validation=100)  # it would measure others
    other.load_state_dict(checkpoint["Coloured"])
    other._contents = data._contents
    assert same(training_batches(other, 1), expected)
    saved = pixel_statistics.saved(checkpoint)
    assert (saved.kind, saved.image_size) == (kind, (6, 5))


def test_other_normalisations_leave_checkpoints_as_they_were():
    assert coloured("mean_std").state_dict() == coloured("scale").state_dict() == {}
    assert pixel_statistics.saved({"state_dict": {"a": torch.zeros(1)}, "epoch": 1}) is None


def test_pixels_can_be_shown_again():
    for kind in ("pixel_mean", "pixel_mean_std"):
        data = coloured(kind)
        shown = data.scale_on(torch.device("cpu")).pixels(evaluated(data))
        np.testing.assert_allclose(shown.numpy(), raw(data)[1] / 255, atol=1e-6)
    data = coloured("zca")
    shown = data.scale_on(torch.device("cpu")).pixels(evaluated(data)).flatten(1)
    expected = gcn(raw(data)[1].reshape(50, -1)) / 55 * 90**0.5 / 4 + 0.5  # standard deviation 1/4
    np.testing.assert_allclose(shown.numpy(), expected, atol=1e-4)


def test_whitened_images_have_nearly_uncorrelated_pixels():
    data = coloured("zca", augment=False)
    white = torch.cat([data.complete(batch)[0] for batch in data.train_dataloader()]).flatten(1)
    covariance = white.T.double().cov()
    others = covariance - covariance.diag().diag()
    assert others.abs().max() < 0.05
    rows = torch.from_numpy(gcn(raw(data)[0].reshape(200, -1)))
    assert (rows.T.cov().fill_diagonal_(0)).abs().max() > 10


def test_an_image_of_one_colour_has_no_contrast_to_normalise():
    flat = torch.full((2, 6, 5, 3), 77, dtype=torch.uint8)
    assert pixel_statistics.contrast_normalised(flat).abs().max() == 0


def test_the_record_says_what_is_subtracted_and_divided_by():
    train, _ = raw(coloured("pixel_mean"))
    found = coloured("pixel_mean").statistics
    np.testing.assert_allclose(found["mean"], train.mean((0, 1, 2)) / 255)
    assert found["std"] == [1, 1, 1]
    np.testing.assert_allclose(coloured("pixel_mean_std").statistics["std"], train.std(ddof=1) / 255)


def test_grey_digits_have_pixels_that_never_change():
    assert evaluated(Digits(normalise="zca")).isfinite().all()


def test_photos_have_no_mean_image(tmp_path):
    with pytest.raises(OptionError, match="normalise=zca: must be one of mean_std, scale, imagenet"):
        ImageFolder(str(tmp_path), normalise="zca")
