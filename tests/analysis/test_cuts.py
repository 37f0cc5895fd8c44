"""Early maps that late layers do not get: of networks made to read them, and made not to."""

import pytest
import torch
import torchvision
from torch import nn

from densenet_cli.analysis.reuse.command import _document, _shown
from densenet_cli.analysis.reuse.connections import connections
from densenet_cli.analysis.reuse.cuts import (
    Change,
    EarlyMaps,
    _means,
    change,
    cut,
    early_maps,
    end,
    late_layers,
)
from densenet_cli.analysis.reuse.feature_reuse import claims, feature_reuse
from densenet_cli.models.densenet import DenseNet
from densenet_cli.options import UserError


def lively(blocks=(6, 3)):
    """A DenseNet in evaluation mode whose batch norms differ from one another."""
    network = DenseNet(6, 4, 0, block_config=blocks).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.5)
            nn.init.normal_(module.running_mean, std=0.5)
    return network


def own_answers(network, images=200):
    """Images with the network's own answers, of all classes, as labels: its error is 0."""
    pixels = torch.randn(images, 3, 8, 8)
    with torch.no_grad():
        network.classifier.bias -= network(pixels).mean(0)
        labels = network(pixels).argmax(1)
    assert len(labels.unique()) == 6
    return list(zip(pixels.split(64), labels.split(64), strict=True))


@torch.no_grad()
def forget_early_maps(network, readers):
    """Let the batch norms of these readers give zeros for the maps of a block's first layers."""
    for block in connections(network):
        early = block.sources[1 : 1 + len(block.layers) // 3]
        for reader in readers(block):
            for columns in early:
                reader.norm.weight[columns] = reader.norm.bias[columns] = 0


@pytest.mark.parametrize(
    ("forgetful", "others"), [(late_layers, "ends"), (end, "layers")], ids=["layers", "ends"]
)
def test_nothing_changes_only_where_early_maps_are_not_read(forgetful, others):
    network = lively()
    forget_early_maps(network, forgetful)
    found = early_maps(network, own_answers(network))
    unread, read = found.layers, found.ends
    if others == "layers":
        unread, read = read, unread
    assert found.error == 0
    assert unread.points == 0
    assert unread.low_points < 0 < unread.high_points
    assert read.points > 5
    assert read.low_points > 0


def test_weights_can_be_even_where_early_maps_are_not_read():
    network = lively((6, 6))
    forget_early_maps(network, late_layers)
    assert claims(feature_reuse(network)).layers.evenness > 0.99  # 1 is the most
    assert early_maps(network, own_answers(network)).layers.points == 0


@torch.no_grad()
def test_only_late_readers_get_means_and_only_of_early_layers():
    network = lively((6,))
    images = torch.randn(7, 3, 8, 8)
    batches = [(images[:3], torch.zeros(3)), (images[3:], torch.zeros(4))]
    (block,) = connections(network)
    assert [reader.name for reader in late_layers(block)] == ["denselayer5", "denselayer6"]
    assert [reader.name for reader in end(block)] == ["classifier"]

    def inputs():
        seen = {}
        hooks = [
            reader.norm.register_forward_pre_hook(
                lambda _, args, name=reader.name: seen.update({name: args[0]})
            )
            for reader in block.readers
        ]
        network(images)
        for hook in hooks:
            hook.remove()
        return seen

    intact = inputs()
    means = _means(network, [block], batches)
    torch.testing.assert_close(means["denseblock1"].float(), intact["classifier"].mean((0, 2, 3)))
    with cut([block], means, late_layers):
        found = inputs()
    for name in ("denselayer1", "denselayer2", "denselayer3", "denselayer4"):
        assert torch.equal(found[name], intact[name])
    assert torch.equal(found["classifier"][:, :24], intact["classifier"][:, :24])  # 8 + 4 · 4 maps
    early, late = slice(8, 16), slice(16, 24)
    expected = means["denseblock1"][early].float()[:, None, None].expand(7, 8, 8, 8)
    for name in ("denselayer5", "denselayer6"):
        assert torch.equal(found[name][:, early], expected)
        assert torch.equal(found[name][:, :8], intact[name][:, :8])
        assert torch.equal(found[name][:, late], intact[name][:, late])
    assert torch.equal(inputs()["denselayer6"], intact["denselayer6"])


def test_torchvisions_densenet_is_cut_too():
    network = torchvision.models.DenseNet(4, (2, 3), 8, num_classes=6).eval()
    images = torch.randn(20, 3, 32, 32)
    with torch.no_grad():
        labels = network(images).argmax(1)
    assert early_maps(network, [(images, labels)]).error == 0


def test_blocks_of_two_layers_have_no_early_and_late_maps():
    network = lively((1, 2))
    found = early_maps(network, own_answers(network))
    assert (found.layers, found.ends) == (None, None)
    with pytest.raises(UserError, match="ResNet is not a DenseNet"):
        early_maps(torchvision.models.resnet18(), [])


def test_interval_of_a_paired_difference():
    before = torch.tensor([False] * 88 + [True] * 10)
    after = before.clone()
    found = change(before, after)
    assert found.points == 0
    assert (found.low_points, found.high_points) == pytest.approx(
        (-1.96, 1.96), abs=1e-3
    )  # ± 1.96 · √1 / 100
    after[:30] = True
    after[-2:] = False
    found = change(before, after)
    assert found.points == pytest.approx(100 * 28 / 98)
    # (30.5 - 2.5) / 100 ± 1.96 · √(33 - 100 · 0.28²) / 100
    assert (found.low_points, found.high_points) == pytest.approx((18.166, 37.834), abs=0.01)


def test_terminal_and_json_show_points_and_their_intervals():
    found = EarlyMaps(14.3, Change(55.5, 52.25, 58.75), None)
    assert _shown(found, "layers") == "+55.50 (+52.25 to +58.75)"
    assert (_shown(found, "ends"), _shown(None, "layers")) == ("", "")
    assert _document(found) == {
        "error_percent": 14.3,
        "layers_cut_points": 55.5,
        "layers_cut_low_points": 52.25,
        "layers_cut_high_points": 58.75,
        "ends_cut_points": None,
        "ends_cut_low_points": None,
        "ends_cut_high_points": None,
    }
    assert set(_document(None).values()) == {None}
