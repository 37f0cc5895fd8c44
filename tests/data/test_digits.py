import numpy as np
import torch
from sklearn.datasets import load_digits

from densenet_cli.data.digits import Digits, read_digits


def digits(**options):
    data = Digits(64, **options)
    data.prepare()
    return data


def test_the_split_is_fixed_and_has_equal_shares_of_all_classes():
    data = digits(seed=1)
    train, test = data._contents.train.source, data._contents.test.source
    assert (len(train.images), len(test.images)) == (1437, 360)
    share = np.bincount(test.labels) / np.bincount(load_digits().target)
    assert np.ptp(share) < 0.01
    assert torch.equal(digits(seed=2)._contents.test.source.images, test.images)
    both = {image.numpy().tobytes() for image in torch.cat([train.images, test.images])}
    assert len(both) == len({image.tobytes() for image in load_digits().images})


def test_digits_are_those_of_scikit_learn():
    pixels, labels = read_digits()
    assert np.array_equal(pixels, load_digits().images)
    assert np.array_equal(labels, load_digits().target)


def test_images_are_grey_bytes_in_three_channels():
    images = digits()._contents.train.source.images
    assert images.shape == (1437, 8, 8, 3)
    assert images.dtype == torch.uint8
    assert (images.min(), images.max()) == (0, 255)
    assert torch.equal(images[..., 0], images[..., 2])
    assert set(images.unique().tolist()) == {round(value * 255 / 16) for value in range(17)}


def test_images_show_their_labels():
    data = digits()
    train, test = data._contents.train.source, data._contents.test.source
    distances = torch.cdist(test.images.float().flatten(1), train.images.float().flatten(1))
    nearest = train.labels[distances.argmin(1)]
    assert (nearest == test.labels).float().mean() > 0.97


def test_digits_are_shifted_by_one_pixel_at_most_and_never_mirrored():
    data = digits(normalise="scale")
    image = torch.ones(200, 8, 8, 3).cumsum(2).byte()  # 1 ... 8 from left to right
    draws = torch.randint(2**63 - 1, (200,), generator=torch.Generator().manual_seed(0))
    middles = data.augmented(image, draws).mul(255).round()[:, 4, 1:7, 0]
    assert {tuple(row) for row in middles.tolist()} == {
        (1, 2, 3, 4, 5, 6), (2, 3, 4, 5, 6, 7), (3, 4, 5, 6, 7, 8)
    }  # fmt: skip


def test_it_describes_itself():
    data = digits()
    assert (data.name, data.num_classes, data.image_size) == ("digits", 10, (8, 8))
    assert data.class_names == [str(digit) for digit in range(10)]
