"""DenseNet: layout, channels, start values, dropout, rules of its arguments."""

import math

import pytest
import torch
from torch import nn

from densenet_cli.models.densenet import DenseBlock, DenseNet
from densenet_cli.options import OptionError, UserError

PLAIN = {"bottleneck": False, "compression": 1.0}
IMAGENET = {"stem": "imagenet", "growth_rate": 32}


def on_meta(num_classes=10, growth_rate=12, depth=40, **options):
    with torch.device("meta"):
        return DenseNet(num_classes, growth_rate, depth, **options)


def channel_trace(network):
    """Channels at [block end, transition out, ..., last block end]."""
    trace = []
    for name, module in network.features.named_children():
        if name.startswith("transition"):
            trace += [module.norm.num_features, module.conv.out_channels]
    return [*trace, network.features.norm5.num_features]


@pytest.mark.parametrize(
    ("depth", "growth_rate", "kind", "blocks", "trace"),
    [  # paper, sec. 3, "implementation details"
        (40, 12, PLAIN, (12, 12, 12), [160, 160, 304, 304, 448]),
        (100, 12, PLAIN, (32, 32, 32), [400, 400, 784, 784, 1168]),
        (100, 24, PLAIN, (32, 32, 32), [784, 784, 1552, 1552, 2320]),
        (100, 12, {}, (16, 16, 16), [216, 108, 300, 150, 342]),
        (250, 24, {}, (41, 41, 41), [1032, 516, 1500, 750, 1734]),
        (190, 40, {}, (31, 31, 31), [1320, 660, 1900, 950, 2190]),
    ],
)
def test_depth_and_growth_rate_give_the_channels_of_the_paper(depth, growth_rate, kind, blocks, trace):
    network = on_meta(10, growth_rate, depth, **kind)
    assert network.block_config == blocks
    assert network.depth == depth
    assert channel_trace(network) == trace


@pytest.mark.parametrize(
    ("depth", "counted_depth", "growth_rate", "blocks", "block_ends"),
    [  # paper, table 1; 161: version 3 of it; 232 and 264 with k=48: arXiv:1707.06990;
        # what table 1 calls 264 has 1 + 2 * 130 + 3 + 1 layers
        (121, 121, 32, (6, 12, 24, 16), [256, 512, 1024, 1024]),
        (169, 169, 32, (6, 12, 32, 32), [256, 512, 1280, 1664]),
        (201, 201, 32, (6, 12, 48, 32), [256, 512, 1792, 1920]),
        (264, 265, 32, (6, 12, 64, 48), [256, 512, 2304, 2688]),
        (161, 161, 48, (6, 12, 36, 24), [384, 768, 2112, 2208]),
        (232, 233, 48, (6, 12, 48, 48), [384, 768, 2688, 3648]),
        (264, 265, 48, (6, 12, 64, 48), [384, 768, 3456, 4032]),
    ],
)
def test_imagenet_depth_is_looked_up(depth, counted_depth, growth_rate, blocks, block_ends):
    network = on_meta(1000, growth_rate, depth, stem="imagenet")
    assert network.block_config == blocks
    assert network.depth == counted_depth
    assert network.features.conv0.out_channels == 2 * growth_rate
    assert channel_trace(network)[::2] == block_ends


@pytest.mark.parametrize(
    ("options", "channels"),
    [
        (PLAIN, 16),
        ({"bottleneck": False, "compression": 1}, 16),
        ({"bottleneck": False, "compression": 0.5}, 24),
        ({"bottleneck": True, "compression": 1.0}, 24),
        ({}, 24),
        ({**PLAIN, "stem": "imagenet", "block_config": [2, 2]}, 24),
        ({**PLAIN, "init_channels": 24}, 24),
        ({"init_channels": 7}, 7),
    ],
)
def test_only_a_plain_cifar_net_starts_with_16_channels(options, channels):
    assert on_meta(**options).features.conv0.out_channels == channels


@pytest.mark.parametrize(("compression", "trace"), [(1, [24, 24, 40]), (0.5, [24, 12, 28])])
def test_transition_keeps_all_maps_or_half(compression, trace):
    network = on_meta(growth_rate=8, block_config=[1, 2], init_channels=16, compression=compression)
    assert channel_trace(network) == trace


@pytest.mark.parametrize(
    ("compression", "maps", "kept"),
    [  # Torch7 floors a product of doubles; exact arithmetic would keep one more each time
        (0.29, 100, 28),
        (0.35, 180, 62),
        (0.7, 90, 62),
        (0.7, 170, 118),
        (0.7, 180, 125),
        (0.7, 330, 230),
        (0.7, 340, 237),
        (0.7, 350, 244),
        (0.7, 360, 251),
    ],
)
def test_compression_floors_a_product_of_doubles(compression, maps, kept):
    network = on_meta(
        growth_rate=1, block_config=[1, 1], init_channels=maps - 1, compression=compression
    )
    assert channel_trace(network)[:2] == [maps, kept]


@pytest.mark.parametrize(("bottleneck", "depth"), [(True, 51), (False, 27)])
def test_block_config_replaces_depth(bottleneck, depth):
    network = on_meta(depth="not read", block_config=[8, 8, 8], bottleneck=bottleneck)
    assert network.block_config == (8, 8, 8)
    convolutions_and_linear = [
        module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.Linear))
    ]
    assert network.depth == len(convolutions_and_linear) == depth + 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 41}, r"depth=41: must be 6n \+ 4 .*such as 40 or 46; for example depth=40"),
        ({"depth": 99, **PLAIN}, r"3n \+ 4 .*without.*such as 97 or 100; for example depth=100"),
        ({"depth": 4}, r"depth=4: must be 6n \+ 4 .*such as 10 or 16; for example depth=10"),
        ({"depth": 9}, "such as 10 or 16"),
        ({"depth": -3}, "depth=-3"),
        ({"depth": "abc"}, "depth=abc: must be a whole number"),
        ({"depth": 200, "stem": "imagenet"}, "one of 121, 161, 169, 201, 232, 264.*depth=201"),
        ({"depth": 121, "stem": "imagenet", "bottleneck": False}, "bottleneck=false.*block_config"),
        ({"block_config": []}, r"block_config=\[\]: .*block_config=\[6,12,24,16\]"),
        ({"block_config": [8, 0, 8]}, r"block_config=\[8,0,8\]"),
        ({"block_config": [8, 8.5]}, r"block_config=\[8,8.5\]"),
        ({"block_config": 8}, "block_config=8"),
        ({"block_config": "8,8"}, "block_config=8,8"),
        ({"growth_rate": 0}, "growth_rate=0: must be a whole number, 1 or more"),
        ({"growth_rate": 12.5}, "growth_rate=12.5"),
        ({"num_classes": 0}, "num_classes=0"),
        ({"init_channels": 0}, "init_channels=0"),
        ({"bottleneck": 1}, "bottleneck=1: must be true or false"),
        ({"stem": "imgnet"}, "stem=imgnet: must be one of cifar, imagenet; for example stem=image"),
        ({"compression": 0}, "compression=0: must be a number above 0 and at most 1"),
        ({"compression": 1.1}, r"compression=1\.1"),
        ({"compression": 0.001}, r"compression=0\.001: leaves none of the 96 feature maps"),
        ({"dropout": 1}, "dropout=1: must be a number at least 0 and below 1"),
        ({"dropout": -0.1}, r"dropout=-0\.1"),
    ],
)
def test_wrong_argument_is_named_with_a_right_one(options, message):
    with pytest.raises(OptionError, match=message):
        on_meta(**options)


def test_block_puts_old_maps_first():
    block = DenseBlock(in_channels=5, layers=3, growth_rate=2, bottleneck=True, dropout=0.0).eval()
    new_maps = []
    for layer in block.values():
        layer.register_forward_hook(lambda module, inputs, output: new_maps.append(output))
    x = torch.randn(2, 5, 4, 4)
    assert torch.equal(block(x), torch.cat([x, *new_maps], dim=1))
    assert [maps.shape[1] for maps in new_maps] == [2, 2, 2]


def test_layers_and_transitions_activate_before_they_convolve():
    network = DenseNet(10, 4, depth=10, init_channels=8).eval()
    inputs = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(
                lambda module, args, output, name=name: inputs.update({name: args[0]})
            )
    network(torch.randn(2, 3, 8, 8))
    del inputs["features.conv0"]
    assert len(inputs) == 8
    assert all((maps >= 0).all() and (maps == 0).any() for maps in inputs.values())


@pytest.mark.parametrize("kind", [PLAIN, {}, {"stem": "imagenet", "block_config": [1, 2, 1, 1]}])
def test_dropout_follows_every_convolution_but_the_first(kind, monkeypatch):
    convolved, dropped = [], []

    def dropout(x, p, training, inplace):
        dropped.append((x, p, training))
        return x.clone()

    monkeypatch.setattr("torch.nn.functional.dropout", dropout)
    network = on_meta(10, 4, depth=10, dropout=0.3, **kind)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda module, args, output: convolved.append(output))
    network(torch.empty(2, 3, 32, 32, device="meta"))
    assert len(dropped) == len(convolved) - 1 > 4
    for (x, p, training), output in zip(dropped, convolved[1:], strict=True):
        assert x is output
        assert p == 0.3
        assert training


def test_dropout_is_element_wise_and_only_in_training():
    network = DenseNet(10, 4, depth=10, init_channels=8, dropout=0.5)
    transition, maps = network.features.transition1, []
    transition.dropout.register_forward_hook(lambda module, args, output: maps.append(output))
    network(torch.randn(4, 3, 32, 32))
    channel_is_zero = (maps[0] == 0).flatten(2).float().mean(dim=2)  # (N, C)
    assert ((channel_is_zero > 0.4) & (channel_is_zero < 0.6)).all()
    network.eval()
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(network(images), network(images))


def test_start_values_are_those_of_the_official_code():
    torch.manual_seed(0)
    network = DenseNet(10, 32, depth=0, block_config=[2, 3], stem="imagenet")
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            kernel_area = module.kernel_size[0] * module.kernel_size[1]
            expected = math.sqrt(2 / (kernel_area * module.out_channels))
            assert module.weight.std().item() == pytest.approx(expected, rel=0.05), name
            assert abs(module.weight.mean().item()) < 0.05 * expected, name
            assert module.bias is None, name
        elif isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all(), name
            assert (module.bias == 0).all(), name
            assert (module.eps, module.momentum) == (1e-5, 0.1), name
    layer = network.features.denseblock2.denselayer3  # fan-in would give 0.0417 for the 3x3
    assert layer.conv1.weight.std().item() == pytest.approx(0.125, rel=0.05)
    assert layer.conv2.weight.std().item() == pytest.approx(0.0833, rel=0.05)
    assert (network.classifier.bias == 0).all()
    bound = 1 / math.sqrt(network.classifier.in_features)
    assert 0.95 * bound < network.classifier.weight.abs().max().item() <= bound


@pytest.mark.parametrize(
    ("options", "least"),
    [({}, 4), ({"block_config": [2]}, 1), ({**IMAGENET, "depth": 121}, 29)],
)
def test_too_small_an_image_is_refused_at_the_very_limit(options, least):
    network = on_meta(**options)
    assert network(torch.empty(2, 3, least, least + 5, device="meta")).shape == (2, 10)
    if least > 1:
        smaller = torch.empty(2, 3, least - 1, least + 5, device="meta")
        with pytest.raises(RuntimeError):  # without the check PyTorch itself would fail
            network.features(smaller)
        with pytest.raises(UserError, match=rf"{least - 1} × {least + 5} pixels.*{least} × {least}"):
            network(smaller)
