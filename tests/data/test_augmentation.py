import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageEnhance

from densenet_cli.data.augmentation import (
    Scale,
    affine,
    affine_one_by_one,
    colour_jitter,
    crop,
    flip_half,
    framed,
    lighting,
    mean_grey,
    normalised_one_by_one,
)

CPU = torch.device("cpu")


def random_draws(count, seed=0):
    return torch.randint(2**63 - 1, (count,), generator=torch.Generator().manual_seed(seed))


def scale(mean, std, width):
    return Scale.of({"mean": mean, "std": std}, width, CPU)


def jitter(images, draws):
    factors, share = colour_jitter(draws)
    return factors, share * mean_grey(images).expand(-1, 3)


def random_images(count, height, width):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8, generator=generator)


def test_normalised_images_have_mean_zero_and_std_one():
    images = random_images(5, 7, 9)
    mean, std = [0.1, 0.5, 0.9], [0.2, 0.3, 0.4]
    found = scale(mean, std, 9).normalised(images)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, (images / 255 - torch.tensor(mean)) / torch.tensor(std))


def test_bit_zero_of_the_draw_mirrors_left_and_right():
    images = random_images(2, 4, 5)
    mirrored = flip_half(images, torch.tensor([2, 2**62 + 1]))
    assert torch.equal(mirrored[0], images[0])
    assert torch.equal(mirrored[1], images[1].flip(1))


@pytest.mark.parametrize(("height", "width", "padding"), [(32, 32, 4), (8, 8, 1), (5, 7, 2)])
def test_each_draw_cuts_the_same_window_in_every_version(height, width, padding):
    images, draws = random_images(300, height, width), random_draws(300)
    to_numbers = scale([0.2, 0.5, 0.7], [0.3, 0.2, 0.25], width)
    found = crop(to_numbers.normalised(images, padding), draws, padding)
    plain = to_numbers.normalised(images)
    places = set()
    for image, window, draw in zip(plain, found, draws.tolist(), strict=True):
        y, x = (draw >> first & 0xFFFFF for first in (1, 21))
        y, x = y % (2 * padding + 1), x % (2 * padding + 1)
        padded = F.pad(image, [0, 0, padding, padding, padding, padding])
        assert torch.equal(window, padded[y : y + height, x : x + width])
        places.add((y, x))
    if padding < 4:
        assert len(places) == (2 * padding + 1) ** 2
    assert {y for y, _ in places} == {x for _, x in places} == set(range(2 * padding + 1))


def test_all_places_and_both_sides_are_equally_likely_and_independent():
    draws = random_draws(81 * 2 * 200)
    marker = torch.zeros(len(draws), 9, 9, 3)
    marker[:, 4, 4] = 1
    place = crop(marker, draws, 4)[..., 0].flatten()  # 1 x 1: the middle, or beside it
    assert place.sum() == pytest.approx(len(draws) / 81, rel=0.25)
    y, x = (draws >> first & 0xFFFFF for first in (1, 21))
    counts = torch.bincount((y % 9 * 9 + x % 9) * 2 + (draws & 1), minlength=162)
    chi_squared = ((counts - 200.0) ** 2 / 200).sum()
    assert 90 < chi_squared < 250  # 161 degrees of freedom: mean 161, std 18


def test_the_border_is_the_mean_colour():
    mean, std = [0.2, 0.5, 0.7], [0.2, 0.2, 0.2]
    white = torch.full((50, 6, 6, 3), 255, dtype=torch.uint8)
    images = crop(scale(mean, std, 6).normalised(white, 2), random_draws(50), 2)
    colours = (images * torch.tensor(std) + torch.tensor(mean)).flatten(0, 2)
    assert ((colours - 1).abs().amax(1) < 1e-5).any()
    border = colours[(colours - 1).abs().amin(1) > 1e-3]
    assert len(border) > 100
    torch.testing.assert_close(border, torch.tensor(mean).expand_as(border))


def test_a_reflected_border_is_that_of_numpy_and_does_not_repeat_the_edge():
    images = random_images(3, 8, 6).float()
    widths = [(0, 0), (4, 4), (4, 4), (0, 0)]
    expected = np.pad(images.numpy(), widths, mode="reflect")
    found = framed(images, 4, "reflect")
    assert found.is_contiguous()
    assert np.array_equal(found.numpy(), expected)
    row = framed(torch.arange(5.0).view(1, 1, 5, 1).expand(1, 5, 5, 3), 2, "reflect")[0, 2, :, 0]
    assert row.tolist() == [2, 1, 0, 1, 2, 3, 4, 3, 2]


def test_jitter_equals_that_of_pillow_if_nothing_is_clipped():
    image = random_images(1, 12, 10) // 8 + 100  # 100..131
    draws = random_draws(40)
    images = image.float().expand(40, -1, -1, -1).contiguous()
    factors, offsets = jitter(images, draws)
    found = affine(images, factors, offsets)
    grey, red = torch.full((3,), 90.0), torch.tensor([200.0, 90, 90])
    for jittered, matrix, offset in zip(found, factors, offsets, strict=True):
        both = matrix[:, 0].sum()  # brightness x contrast: what a grey difference is multiplied by
        mean = images[0].mean((0, 1)) @ torch.tensor([0.299, 0.587, 0.114])
        brightness = (both + offset[0] / mean).item()
        saturation = (((red - grey) @ matrix)[0] - ((red - grey) @ matrix)[1]) / 110 / both
        expected = Image.fromarray(image[0].numpy())
        expected = ImageEnhance.Color(expected).enhance(saturation.item())
        expected = ImageEnhance.Contrast(expected).enhance(both.item() / brightness)
        expected = ImageEnhance.Brightness(expected).enhance(brightness)
        difference = jittered - torch.from_numpy(np.array(expected))
        assert difference.abs().max() < 5  # Pillow cuts off decimals three times
        assert difference.abs().mean() < 2


def test_brightness_contrast_and_saturation_change_by_two_fifths_independently():
    draws = random_draws(20_000)
    images = torch.full((len(draws), 1, 1, 3), 100.0)
    factors, offsets = jitter(images, draws)
    both = factors.sum(1)[:, 0]
    brightness = both + offsets[:, 0] / 100
    saturation = (factors[:, 0, 0] - factors[:, 0, 1]) / both
    changes = torch.stack([brightness, both / brightness, saturation])
    torch.testing.assert_close(changes.amin(1), torch.full((3,), 0.6), atol=1e-3, rtol=0)
    torch.testing.assert_close(changes.amax(1), torch.full((3,), 1.4), atol=1e-3, rtol=0)
    others = torch.cat([changes, lighting(draws).T, (draws & 1)[None].float()])
    correlations = others.corrcoef()[:3] - torch.eye(7)[:3]
    assert correlations.abs().max() < 0.03  # 4 standard errors
    torch.testing.assert_close(changes.std(1), torch.full((3,), 0.231), atol=4e-3, rtol=0)


def test_lighting_varies_as_the_colours_of_imagenet_do():
    changes = lighting(random_draws(200_000))
    vectors = torch.tensor(
        [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
    )
    expected = vectors @ torch.diag(torch.tensor([0.2175, 0.0188, 0.0045]) * 0.1) ** 2 @ vectors.T
    assert changes.isfinite().all()
    torch.testing.assert_close(changes.mean(0), torch.zeros(3), atol=3e-4, rtol=0)
    torch.testing.assert_close(changes.T.cov(), expected, atol=1e-6, rtol=0.02)


def test_an_image_is_augmented_alike_alone_and_in_a_batch():
    images, draws = random_images(6, 8, 8), random_draws(6)
    to_numbers = scale([0.2, 0.5, 0.7], [0.2, 0.2, 0.2], 8)

    def changed(rows):
        mirrored = flip_half(images[rows], draws[rows])
        return crop(to_numbers.normalised(mirrored, 2), draws[rows], 2)

    alone = torch.cat([changed(slice(row, row + 1)) for row in range(6)])
    assert torch.equal(alone, changed(slice(0, 6)))


@pytest.mark.parametrize("size", [(8, 8), (5, 6), (5, 7)])
@pytest.mark.parametrize("channels", [3, 1])
def test_images_are_augmented_alike_one_by_one_and_at_once(size, channels):
    images, draws = random_images(9, *size)[..., :channels].contiguous(), random_draws(9)
    factors, share = colour_jitter(draws, channels)
    offsets, result = lighting(draws, channels), torch.empty(images.shape)
    affine_one_by_one(images, draws, factors, share.expand(-1, channels), offsets, result)
    pixels = flip_half(images, draws).float()
    expected = affine(pixels, factors, share * mean_grey(pixels) + offsets)
    torch.testing.assert_close(result, expected, atol=1e-4, rtol=1e-6)


def test_images_are_normalised_alike_one_by_one_and_at_once():
    images, draws = random_images(6, 5, 7), random_draws(6)
    to_numbers, result = scale([0.2, 0.5, 0.7], [0.2, 0.1, 0.2], 7), torch.empty(images.shape)
    assert (draws & 1).unique().tolist() == [0, 1]
    normalised_one_by_one(images, None, to_numbers, result)
    assert torch.equal(result, to_numbers.normalised(images))
    normalised_one_by_one(images, draws, to_numbers, result)
    assert torch.equal(result, to_numbers.normalised(flip_half(images, draws)))
