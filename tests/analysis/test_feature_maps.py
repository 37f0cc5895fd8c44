"""Maps that are made dead or redundant are found, and no others."""

import numpy as np
import pytest
import torch
from torch import nn

from densenet_cli.analysis.maps.feature_maps import activations, correlations
from densenet_cli.analysis.maps.figure import draw
from densenet_cli.analysis.network_label import NetworkLabel
from densenet_cli.models.densenet import DenseNet
from densenet_cli.models.resnet import ResNet
from densenet_cli.options import UserError

IMAGES = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))
BATCHES = [(IMAGES[:4], torch.zeros(4)), (IMAGES[4:], torch.zeros(2))]


def test_every_relu_is_found_with_its_maps():
    found = activations(DenseNet(6, 4, 10), BATCHES)
    assert [(relu.name, relu.maps) for relu in found] == [
        ("features.denseblock1.denselayer1", 8),
        ("features.denseblock1.denselayer1", 16),
        ("features.transition1", 12),
        ("features.denseblock2.denselayer1", 6),
        ("features.denseblock2.denselayer1", 16),
        ("features.transition2", 10),
        ("features.denseblock3.denselayer1", 5),
        ("features.denseblock3.denselayer1", 16),
        ("DenseNet", 9),
    ]
    assert len(activations(ResNet(6, 8), BATCHES)) == 1 + 2 * 3


@torch.no_grad()
def test_a_map_is_dead_if_its_bias_keeps_it_below_zero_on_all_images():
    torch.manual_seed(0)
    network = DenseNet(6, 4, 10)
    network.features.transition1.norm.bias[:3] = -1000
    found = {relu.name: relu for relu in activations(network, BATCHES)}
    assert found["features.transition1"].dead == pytest.approx(3 / 12)
    assert found["features.denseblock1.denselayer1"].dead < 3 / 12
    network.features.transition1.norm.bias[:3] = 0
    assert activations(network, BATCHES)[2].dead == 0


@torch.no_grad()
def test_a_map_that_repeats_another_is_redundant():
    torch.manual_seed(0)
    network = DenseNet(6, 4, 10)
    before = activations(network, BATCHES)[1].redundant
    conv = network.features.denseblock1.denselayer1.conv1.weight  # 16 maps, read after a ReLU
    conv[5] = 3 * conv[2]
    conv[9] = conv[2]
    after = activations(network, BATCHES)[1].redundant
    assert after == pytest.approx(before + 2 / 16)


def test_correlations_are_those_of_numpy():
    maps = torch.rand(5, 4, 3, 2, generator=torch.Generator().manual_seed(0)) + 10
    maps[:, 3] = 20 - maps[:, 0]
    expected = np.corrcoef(maps.transpose(0, 1).flatten(1).double().numpy())
    np.testing.assert_allclose(correlations(maps).numpy(), expected, atol=1e-9)
    assert float(correlations(maps)[3, 0]) == pytest.approx(-1)


def test_a_constant_map_repeats_none():
    maps = torch.rand(5, 3, 3, 2)
    maps[:, 1] = 0.7
    assert correlations(maps)[1].tolist() == pytest.approx([0, 0, 0], abs=1e-5)
    maps[:, 1] = 0
    assert correlations(maps)[1].tolist() == [0, 0, 0]


def test_empty_batches_are_refused():
    with pytest.raises(ValueError, match="no images"):
        activations(ResNet(6, 8), [])


def test_figure_shows_percentages_of_every_relu():
    found = activations(ResNet(6, 8), BATCHES)
    drawing = draw({NetworkLabel("ResNet-8", "ResNet"): found})
    redundant = drawing.figure.axes[1].get_lines()[0]
    assert list(redundant.get_ydata()) == pytest.approx([100 * relu.redundant for relu in found])
    assert [point["maps"] for point in drawing.points] == [relu.maps for relu in found]


def test_relu6_is_a_relu_and_a_network_without_relu_is_refused():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU6(), nn.Flatten(), nn.LazyLinear(2))
    assert [(relu.name, relu.maps) for relu in activations(network, BATCHES)] == [("1", 4)]
    network[1] = nn.Hardtanh()
    with pytest.raises(UserError, match="Sequential has no ReLU on feature maps"):
        activations(network, BATCHES)
