"""RandAugment, compared with torchvision's, in all data sets."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from image_folders import fill, folder
from PIL import Image
from torchvision.transforms import InterpolationMode, v2
from training_batches import same, training_batches

from densenet_cli.data.digits import Digits
from densenet_cli.data.random_operations import RandAugment, _operations
from densenet_cli.options import OptionError

THEIRS = v2.RandAugment()


def picture(mode="RGB"):
    pixels = np.random.default_rng(0).integers(0, 256, (21, 30, 3), dtype=np.uint8)
    return Image.fromarray(pixels // 2 + 40).convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("magnitude", [1, 9, 25, 30])
def test_every_operation_is_that_of_torchvision(magnitude, mode):
    image, ours = picture(mode), _operations(magnitude / 30)
    assert list(ours) == list(THEIRS._AUGMENTATION_SPACE)
    for name, (magnitudes, is_signed) in THEIRS._AUGMENTATION_SPACE.items():
        all_of_them = magnitudes(31, image.height, image.width)
        level = 0.0 if all_of_them is None else float(all_of_them[magnitude])
        for sign in (1, -1):
            nearest = {"interpolation": InterpolationMode.NEAREST, "fill": THEIRS._fill}
            signed = sign * level if is_signed else level
            expected = THEIRS._apply_image_or_video_transform(image, name, signed, **nearest)
            assert np.array_equal(ours[name](image, sign), expected), (name, sign)


def test_two_operations_are_drawn_for_each_image():
    augment, calls = RandAugment(9), []
    augment.operations = [
        lambda image, sign, own=number: calls.append((own, sign)) or image for number in range(14)
    ]
    image = torch.zeros(4, 5, 3, dtype=torch.uint8)
    for draw in range(2000):
        augment(image, draw)
    first, again = calls[:4], calls[:]
    augment(image, 0)
    augment(image, 1)
    assert calls[4000:] == first
    numbers, signs = np.array(again).T
    assert np.bincount(numbers, minlength=14) == pytest.approx(np.full(14, 4000 / 14), abs=70)
    assert abs(signs.mean()) < 0.05


def digits(workers, rank=0, processes=1):
    data = Digits(batch_size=300, seed=3, num_workers=workers, randaugment=9)
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    data.trainer = SimpleNamespace(
        global_rank=rank, world_size=processes, strategy=strategy, training=True
    )
    return data


def test_images_are_the_same_for_any_number_of_workers_and_processes():
    one = training_batches(digits(0), 1)
    assert same(training_batches(digits(1), 1), one)
    second = training_batches(digits(0, rank=1, processes=2), 1)
    assert all(torch.equal(a[0], b[0][1::2]) for a, b in zip(second[:4], one[:4], strict=True))
    plain = Digits(batch_size=300, seed=3)
    plain.trainer = digits(0).trainer
    images = training_batches(plain, 1)[0][0]
    are_equal = (images == one[0][0]).flatten(1).all(1)
    assert 0 < are_equal.float().mean() < 0.5  # "Identity" twice, and what grey does not show


@pytest.mark.parametrize("value", [0, 31, 9.5, True, "strong"])
def test_another_magnitude_is_refused(value):
    with pytest.raises(OptionError, match="whole number from 1 to 30, or null for none"):
        Digits(randaugment=value)


def test_random_operations_need_augmentation():
    with pytest.raises(OptionError, match=r"randaugment=9: .*augment=false forbids"):
        Digits(randaugment=9, augment=False)


@pytest.mark.parametrize("channels", [3, 1])
def test_photos_are_cropped_mirrored_and_given_to_random_operations_alone(tmp_path, channels):
    fill(tmp_path, 6)
    options = {"image_size": 16, "channels": channels, "num_workers": 0, "check": False}
    data = folder(tmp_path, **options, randaugment=9)
    data.prepare()
    images, labels, draws = next(iter(data.train_dataloader()))
    made, _ = data.complete((images, labels, draws))
    scale = data.scale_on(torch.device("cpu"))
    back = (made.permute(0, 2, 3, 1) * scale.std + scale.mean) * 255  # no jitter, no lighting
    mirrored = torch.where((draws & 1 > 0).view(-1, 1, 1, 1), images.flip(2), images)
    torch.testing.assert_close(back, mirrored.float(), atol=1e-3, rtol=0)
    plain = folder(tmp_path, **options)
    plain.prepare()
    crops = next(iter(plain.train_dataloader()))[0]
    expected = [RandAugment(9)(crop, draw) for crop, draw in zip(crops, draws.tolist(), strict=True)]
    assert torch.equal(images, torch.stack(expected))
