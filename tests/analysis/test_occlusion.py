"""Occlusion of networks that use a known part of the image."""

import math

import pytest
import torch
from torch import nn

from densenet_cli.analysis.saliency.occlusion import occlusion
from densenet_cli.options import OptionError


class Reads(nn.Module):
    """Two logits: the sum of the colours of one pixel, and zero."""

    def __init__(self, row, column):
        super().__init__()
        self.row, self.column, self.weight = row, column, nn.Parameter(torch.ones(()))

    def forward(self, images):
        value = self.weight * images[:, :, self.row, self.column].sum(1)
        return torch.stack([value, torch.zeros_like(value)], dim=1)


IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) + 0.5
BOTH = torch.zeros(2, dtype=torch.long)


def drop(row, column):
    """The drop in the probability of class 0 if the pixel becomes zero: by the logistic function."""
    return [1 / (1 + math.exp(-image[:, row, column].sum().item())) - 1 / 2 for image in IMAGES]


def test_the_corner_that_the_network_uses_has_the_drop_computed_by_hand():
    found = occlusion(Reads(0, 0), IMAGES, BOTH, patch=4)
    for image, whole in zip(found, drop(0, 0), strict=True):
        # Squares begin at 0, 2 and 4; of those that hide a pixel only the first hides the corner.
        share = torch.tensor([1, 1, 1 / 2, 1 / 2, 0, 0, 0, 0])
        torch.testing.assert_close(image, whole * share.outer(share))


@pytest.mark.parametrize(("patch", "row", "column"), [(3, 2, 7), (5, 4, 0), (1, 3, 3), (8, 1, 6)])
def test_each_pixel_has_the_mean_over_the_squares_that_hide_it(patch, row, column):
    stride = max(1, patch // 2)
    begins = sorted({min(begin, 8 - patch) for begin in range(0, 8, stride)})
    squares = [(top, left) for top in begins for left in begins]
    found = occlusion(Reads(row, column), IMAGES, BOTH, patch)
    for image, whole in zip(found, drop(row, column), strict=True):
        for y, x in ((y, x) for y in range(8) for x in range(8)):
            hiding = [(t, e) for t, e in squares if t <= y < t + patch and e <= x < e + patch]
            hit = [t <= row < t + patch and e <= column < e + patch for t, e in hiding]
            assert image[y, x].item() == pytest.approx(whole * sum(hit) / len(hit), abs=1e-6)


def test_pixels_that_lower_the_probability_are_below_zero():
    found = occlusion(Reads(0, 0), IMAGES, torch.ones(2, dtype=torch.long))
    assert found[:, 0, 0].tolist() == pytest.approx([-whole for whole in drop(0, 0)])
    assert (found[:, 2:, 2:] == 0).all()  # by default a quarter: two pixels


def test_a_square_larger_than_the_image_is_refused():
    with pytest.raises(OptionError, match=r"--patch=9: the images have 8 pixels a side.*--patch=2"):
        occlusion(Reads(0, 0), IMAGES, BOTH, patch=9)
