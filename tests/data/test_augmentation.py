import pytest
import torch

from densenet_cli.data.augmentation import flip_half, lighting, normalised, shift


def random_draws(count, seed=0):
    return torch.randint(2**63 - 1, (count,), generator=torch.Generator().manual_seed(seed))


def test_normalising_takes_bytes_to_mean_zero_and_std_one():
    images = torch.randint(0, 256, (5, 3, 7, 9), dtype=torch.uint8)
    mean, std = torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0.2, 0.3, 0.4])
    expected = (images / 255 - mean[:, None, None]) / std[:, None, None]
    found = normalised(images, mean, std)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)


def test_bit_zero_of_the_draw_mirrors_left_and_right():
    images = torch.arange(2 * 3 * 2 * 3.0).view(2, 3, 2, 3)
    mirrored = flip_half(images, torch.tensor([2, 3]))
    assert torch.equal(mirrored[0], images[0])
    assert torch.equal(mirrored[1], images[1].flip(-1))


@pytest.mark.parametrize(("height", "width", "padding"), [(32, 32, 4), (8, 8, 1), (5, 7, 2)])
def test_shifted_images_are_windows_of_the_zero_padded_ones(height, width, padding):
    images = torch.randn(300, 3, height, width)
    found = shift(images, random_draws(300), padding)
    places = set()
    for image, window in zip(images, found, strict=True):
        padded = torch.zeros(3, height + 2 * padding, width + 2 * padding)
        padded[:, padding:-padding, padding:-padding] = image
        matches = [
            (y, x)
            for y in range(2 * padding + 1)
            for x in range(2 * padding + 1)
            if torch.equal(padded[:, y : y + height, x : x + width], window)
        ]
        assert len(matches) == 1
        places.update(matches)
    if padding < 4:
        assert len(places) == (2 * padding + 1) ** 2
    assert {y for y, _ in places} == {x for _, x in places} == set(range(2 * padding + 1))


def test_all_places_and_both_sides_are_equally_likely_and_independent():
    draws = random_draws(81 * 2 * 200)
    marker = torch.zeros(len(draws), 1, 9, 9)
    marker[:, :, 4, 4] = 1
    place = shift(marker, draws, 4).flatten(1).argmax(1)
    mirrored = draws & 1
    counts = torch.bincount(place * 2 + mirrored, minlength=162)
    chi_squared = ((counts - 200.0) ** 2 / 200).sum()
    assert 90 < chi_squared < 250  # 161 degrees of freedom: mean 161, std 18


def test_the_border_is_the_mean_colour():
    mean, std = torch.tensor([0.2, 0.5, 0.7]), torch.tensor([0.2, 0.2, 0.2])
    white = torch.full((50, 3, 6, 6), 255, dtype=torch.uint8)
    images = shift(normalised(white, mean, std), random_draws(50), 2)
    colours = (images * std[:, None, None] + mean[:, None, None]).permute(1, 0, 2, 3).flatten(1)
    assert ((colours - 1).abs().amin(0) < 1e-5).any()
    border = colours[:, (colours - 1).abs().amax(0) > 1e-3]
    assert border.shape[1] > 100
    torch.testing.assert_close(border, mean[:, None].expand_as(border))


def test_light_changes_as_the_colours_of_imagenet_do():
    changes = lighting(random_draws(200_000)).view(-1, 3)
    vectors = torch.tensor(
        [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
    )
    expected = vectors @ torch.diag(torch.tensor([0.2175, 0.0188, 0.0045]) * 0.1) ** 2 @ vectors.T
    assert changes.isfinite().all()
    torch.testing.assert_close(changes.mean(0), torch.zeros(3), atol=3e-4, rtol=0)
    torch.testing.assert_close(changes.T.cov(), expected, atol=1e-6, rtol=0.02)


def test_images_are_changed_alike_alone_and_in_a_batch():
    images, draws = torch.randn(6, 3, 8, 8), random_draws(6)

    def changed(rows):
        return shift(flip_half(images[rows], draws[rows]), draws[rows], 2)

    alone = torch.cat([changed(slice(row, row + 1)) for row in range(6)])
    assert torch.equal(alone, changed(slice(0, 6)))
