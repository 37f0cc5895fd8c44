"""Figure 5 of the paper: weights set by hand give known numbers."""

import math

import pytest
import torch
import torchvision

from densenet_cli.analysis.reuse.feature_reuse import BlockReuse, claims, evenness, feature_reuse
from densenet_cli.analysis.reuse.figure import draw
from densenet_cli.models.densenet import DenseNet
from densenet_cli.options import UserError


def plain(blocks=(3, 3, 3)):
    return DenseNet(10, 4, 0, block_config=blocks, bottleneck=False, compression=1.0)


@torch.no_grad()
def test_weights_set_by_hand_are_found_by_source_and_layer():
    network = plain((2, 1))
    first, second = network.features.denseblock1.values()
    assert second.conv1.weight.shape == (4, 16 + 4, 3, 3)
    first.conv1.weight.fill_(-0.5)
    second.conv1.weight[:, :16] = 0.25
    second.conv1.weight[:, 16:].zero_()
    second.conv1.weight[0, 17, 1, 1] = -72  # 1 of the 4 · 4 · 9 weights between the two layers
    transition = network.features.transition1.conv.weight  # 24 -> 24
    for maps, value in ((slice(0, 16), 1.0), (slice(16, 20), -2.0), (slice(20, 24), 3.0)):
        transition[:, maps] = value
    network.classifier.weight[:, :24], network.classifier.weight[:, 24:] = 0.125, -0.5
    one, two = feature_reuse(network)
    expected = torch.tensor(
        [[0.5, 0.25, 1], [math.nan, 0.5, 2], [math.nan, math.nan, 3]], dtype=torch.float64
    )
    torch.testing.assert_close(one.weights, expected, equal_nan=True)
    assert (one.name, one.reader_after) == ("denseblock1", "transition1")
    assert two.reader_after == "classifier"
    torch.testing.assert_close(two.columns()[1], torch.tensor([0.125, 0.5], dtype=torch.float64))
    torch.testing.assert_close(two.relative()[:, 1], torch.tensor([0.25, 1.0], dtype=torch.float64))


@torch.no_grad()
def test_weights_through_the_batch_norm_are_multiplied_by_its_scale():
    network = plain((1, 1))
    layer = network.features.denseblock1.denselayer1
    layer.conv1.weight.fill_(2)
    layer.norm1.weight.fill_(-3)
    assert float(feature_reuse(network)[0].weights[0, 0]) == 2
    assert float(feature_reuse(network, through_norm=True)[0].weights[0, 0]) == 6


@torch.no_grad()
def test_the_1x1_convolution_of_a_bottleneck_layer_counts():
    network = DenseNet(10, 4, 16)
    for layer in network.features.denseblock1.values():
        layer.conv1.weight.fill_(0.5)
        layer.conv2.weight.fill_(99)
    weights = feature_reuse(network)[0].weights
    assert weights.shape == (3, 3)
    assert weights[0, :2].tolist() == [0.5, 0.5]


def test_torchvisions_densenet_has_the_same_connections():
    network = torchvision.models.DenseNet(growth_rate=4, block_config=(2, 3), num_init_features=8)
    blocks = feature_reuse(network)
    assert [block.weights.shape for block in blocks] == [(3, 3), (4, 4)]
    conv = network.features.denseblock2.denselayer3.conv1.weight  # reads 8 maps, then 4 and 4
    assert float(blocks[1].weights[2, 2]) == pytest.approx(conv[:, 12:16].detach().abs().mean().item())


def test_another_network_is_refused():
    with pytest.raises(UserError, match="ResNet is not a DenseNet"):
        feature_reuse(torchvision.models.resnet18())


def test_claims_of_columns_by_hand():
    nan = math.nan
    one = [[1.0, 1, 2], [nan, 1, 2], [nan, nan, 2]]
    two = [[9.0, 1, 1], [nan, 3, 1], [nan, nan, 4]]
    blocks = [
        BlockReuse("denseblock1", "transition1", torch.tensor(one).double()),
        BlockReuse("denseblock2", "classifier", torch.tensor(two).double()),
    ]
    found = claims(blocks)
    quarter = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75)) / math.log(2)
    assert found.layers.evenness == pytest.approx((1 + quarter) / 2)
    assert found.layers.largest == pytest.approx((1 + 3 / 2) / 2)
    assert (found.transitions.evenness, found.transitions.largest) == (pytest.approx(1), 1)
    assert found.input_over_others == pytest.approx(1 / 3)
    assert (found.input_is_least, found.input_is_least_by_chance) == (1, 0.5)
    assert found.late_over_early == 4
    assert found.lateness == pytest.approx(math.sqrt(3) / 2)  # of (0, 1, 2) with (1, 1, 4)


def test_a_single_block_has_no_numbers_of_transitions():
    found = claims(feature_reuse(plain((3,))))
    assert found.transitions is None
    assert found.input_over_others is None
    assert found.layers is not None


def test_numbers_of_an_untrained_network_are_those_of_chance():
    torch.manual_seed(0)
    found = claims(feature_reuse(DenseNet(10, 12, 40, bottleneck=False, compression=1.0)))
    assert found.layers.evenness == pytest.approx(1, abs=0.002)
    assert found.transitions.largest == pytest.approx(1, abs=0.08)
    assert found.input_over_others == pytest.approx(1, abs=0.02)
    assert found.late_over_early == pytest.approx(1, abs=0.1)


def test_evenness_of_one_source_alone_is_zero():
    assert evenness(torch.tensor([0.0, 5.0, 0.0])) == 0


def test_figure_has_a_triangle_for_each_block_with_a_box_around_the_last_column():
    reuse = feature_reuse(plain((3, 2)))
    drawing = draw(reuse, "DenseNet")
    assert len(drawing.points) == (4 * 5 + 3 * 4) // 2
    assert drawing.points[0]["mean_absolute_weight"] == float(reuse[0].weights[0, 0])
    blocks = drawing.figure.axes[:2]
    assert [axes.get_title(loc="left") for axes in blocks] == ["block 1", "block 2"]
    assert [axes.patches[0].get_x() for axes in blocks] == [3.5, 2.5]
    drawn = blocks[1].collections[0].get_array()
    assert drawn.shape == (3, 3)
    assert int(drawn.mask.sum()) == 3  # sources that come after their reader
