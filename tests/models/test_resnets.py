"""The CIFAR ResNets: shortcuts, stochastic depth, pre-activation, dropout, rules of arguments."""

import copy
import functools
import math
import random

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from densenet_cli.models import cost
from densenet_cli.models.preact_resnet import PreActivationUnit, PreActResNet, basic_branch
from densenet_cli.models.resnet import ResidualBlock, ResNet, ZeroPadShortcut
from densenet_cli.models.wide_resnet import WideResNet
from densenet_cli.options import OptionError


def on_meta(network_class, *arguments, **options):
    with torch.device("meta"):
        return network_class(10, *arguments, **options)


def test_option_a_takes_every_second_pixel_and_adds_zero_channels():
    x = torch.arange(2 * 3 * 5 * 4, dtype=torch.float).reshape(2, 3, 5, 4)
    y = ZeroPadShortcut(3, 6, stride=2)(x)
    assert y.shape == (2, 6, 3, 2)
    assert torch.equal(y[:, :3], x[:, :, [0, 2, 4]][..., [0, 2]])
    assert (y[:, 3:] == 0).all()


def test_residual_block_activates_after_the_sum():
    block = ResidualBlock(16, 32, stride=2, shortcut="A").eval()
    x = torch.randn(2, 16, 8, 8)
    branch = block.bn2(block.conv2(F.relu(block.bn1(block.conv1(x)))))
    assert torch.equal(block(x), F.relu(ZeroPadShortcut(16, 32, 2)(x) + branch))


def test_pooled_shortcut_averages_two_by_two_pixels_and_adds_zero_channels():
    x = torch.arange(2 * 3 * 4 * 6, dtype=torch.double).reshape(2, 3, 4, 6)
    y = ResidualBlock(3, 6, stride=2, shortcut="pool").shortcut(x)
    assert y.shape == (2, 6, 2, 3)
    assert torch.equal(y[:, :3], x.reshape(2, 3, 2, 2, 3, 2).mean(dim=(3, 5)))
    assert (y[:, 3:] == 0).all()
    odd = ResidualBlock(3, 6, stride=2, shortcut="pool").shortcut(torch.ones(1, 3, 5, 7))
    assert odd.shape == (1, 6, 3, 4)  # as that of the 3x3 convolution
    assert (odd[:, :3] == 1).all()


def test_biases_of_the_stochastic_depth_code_are_those_of_all_convolutions():
    network = on_meta(ResNet, 56, "pool", 0.5, bias=True)
    biases = 16 * (1 + 18 * (1 + 2 + 4))
    assert cost.count_parameters(network) == 853_018 + biases  # arXiv:1512.03385, table 6: 0.85M


def test_biases_begin_at_zero():
    network = ResNet(10, 14, "B", bias=True)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == 1 + 12 + 2
    assert all((module.bias == 0).all() for module in convolutions)


@pytest.mark.parametrize(("shortcut", "expected"), [("A", [0, 0, 0]), ("B", [0, 512, 2048])])
def test_only_option_b_has_weights_and_only_where_the_shape_changes(shortcut, expected):
    network = on_meta(ResNet, 20, shortcut=shortcut)
    weights = [
        sum(
            module.weight.numel()
            for block in stage
            for module in block.shortcut.modules()
            if isinstance(module, nn.Conv2d)
        )
        for stage in network.stages
    ]
    assert weights == expected
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 19 + (2 if shortcut == "B" else 0)


def test_plain_network_is_the_resnet_of_equal_weights_without_its_shortcuts():
    networks = []
    for shortcut in ("A", "none"):
        torch.manual_seed(0)
        networks.append(ResNet(10, 20, shortcut).eval())
    residual, plain = networks
    pairs = zip(plain.parameters(), residual.parameters(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)
    maps = F.relu(residual.bn1(residual.conv1(torch.randn(2, 3, 16, 16))))
    found = plain.stages(maps)
    for block in (block for stage in residual.stages for block in stage):
        maps = F.relu(block.bn2(block.conv2(F.relu(block.bn1(block.conv1(maps))))))
    assert torch.equal(found, maps)


def test_chance_of_survival_decays_linearly():
    network = on_meta(ResNet, 20, survival_probability=0.1)
    chances = [block.survival for stage in network.stages for block in stage]
    assert chances == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])


@pytest.mark.parametrize("off", [None, 1, 1.0])
def test_stochastic_depth_is_off_by_default_and_at_one(off):
    network = on_meta(ResNet, 20, survival_probability=off)
    assert all(block.survival == 1 for stage in network.stages for block in stage)


def test_branch_is_kept_or_dropped_for_the_whole_batch_with_its_chance():
    torch.manual_seed(0)
    block = ResidualBlock(4, 4, stride=1, shortcut="A", survival=0.7).double()
    x = 100 + torch.rand(3, 4, 6, 6, dtype=torch.double)  # so large that the last ReLU is idle
    block.survival = 1.0
    kept_output = block(x)
    block.survival = 0.7
    block.draws.seed(0)
    kept = 0
    for _ in range(400):
        output = block(x)
        kept += torch.equal(output, kept_output)
        assert torch.equal(output, kept_output) or torch.equal(output, x)
    assert kept / 400 == pytest.approx(0.7, abs=4 * math.sqrt(0.7 * 0.3 / 400))


def test_evaluation_weighs_the_branch_by_its_chance():
    block = ResidualBlock(4, 4, stride=1, shortcut="A", survival=0.7).double().eval()
    x = 100 + torch.rand(3, 4, 6, 6, dtype=torch.double)
    scaled = block(x) - x
    block.survival = 1.0
    torch.testing.assert_close(scaled, 0.7 * (block(x) - x))


BRANCH = ("conv1", "bn1", "conv2", "bn2")


class Left(random.Random):
    """Draws that leave out the blocks of these positions, and no others."""

    def __init__(self, positions):
        super().__init__()
        self.positions, self.asked = positions, 0

    def random(self):
        self.asked += 1
        return 0.999 if self.asked - 1 in self.positions else 0.0


def blocks_of(network):
    return [block for stage in network.stages for block in stage]


@pytest.mark.parametrize("shortcut", ["A", "B", "pool"])
def test_a_block_that_is_left_out_is_not_computed(shortcut):
    """As in ResidualDrop.lua: shortcut and ReLU only; zero gradients; statistics do not move."""
    torch.manual_seed(0)
    network = ResNet(10, 20, shortcut, survival_probability=0.5).double()
    expected, draws, calls = copy.deepcopy(network), Left({2, 3, 7}), []  # 3 begins the second stage
    for position, (ours, theirs) in enumerate(zip(*map(blocks_of, (network, expected)), strict=True)):
        ours.draws, theirs.draws = draws, Left(())
        ours.conv1.register_forward_hook(lambda *_, position=position: calls.append(position))
        if position in draws.positions:  # the network without this branch
            theirs.forward = functools.partial(lambda block, x: F.relu(block.shortcut(x)), theirs)
    images = torch.randn(2, 3, 16, 16, dtype=torch.double)
    found, wanted = network(images), expected(images)
    assert calls == [0, 1, 4, 5, 6, 8]
    assert torch.equal(found, wanted)
    for logits in (found, wanted):
        logits.square().sum().backward()
    for position, (ours, theirs) in enumerate(zip(*map(blocks_of, (network, expected)), strict=True)):
        left_out = position in draws.positions
        for name in BRANCH:
            for own in getattr(ours, name).parameters():
                assert (own.grad == 0).all() == left_out
        assert ours.bn2.num_batches_tracked == (0 if left_out else 1)
        assert (ours.bn1.running_mean == 0).all() == left_out
        for one, other in zip(ours.shortcut.parameters(), theirs.shortcut.parameters(), strict=True):
            assert torch.equal(one.grad, other.grad)
    assert torch.equal(network.conv1.weight.grad, expected.conv1.weight.grad)


def test_weight_decay_and_momentum_act_on_a_block_that_is_left_out():
    """As optim.sgd of Torch7, whose gradients are zero there."""
    torch.manual_seed(0)
    network = ResNet(10, 8, survival_probability=0.5)
    weight = network.stages[1][0].conv2.weight
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, weight_decay=0.01)
    before, momentum = weight.detach().clone(), torch.zeros_like(weight)
    for positions in ({0}, {1}, {1}):  # the second step and the third leave this block out
        draws = Left(positions)
        for block in blocks_of(network):
            block.draws = draws
        optimizer.zero_grad()
        network(torch.randn(4, 3, 8, 8)).square().sum().backward()
        momentum = 0.9 * momentum + weight.grad + 0.01 * before
        optimizer.step()
        before = before - 0.1 * momentum
        torch.testing.assert_close(weight.detach(), before)
    assert (weight.grad == 0).all()


@pytest.mark.slow
def test_a_compiled_network_leaves_out_other_blocks_in_each_step():
    """torch.compile would evaluate random() once, and keep the result."""
    torch.manual_seed(0)
    network = ResNet(10, 8, survival_probability=0.5)
    reference, images = copy.deepcopy(network), torch.randn(2, 3, 8, 8)
    compiled = torch.compile(network, backend="eager")
    for _ in range(8):
        torch.testing.assert_close(compiled(images), reference(images))
    counts = [int(block.bn1.num_batches_tracked) for block in blocks_of(network)]
    assert counts == [int(block.bn1.num_batches_tracked) for block in blocks_of(reference)]
    assert 0 < min(counts) < 8


def test_a_frozen_branch_needs_no_gradient():
    network = ResNet(10, 8, survival_probability=0.5)
    for block in blocks_of(network):
        block.draws = Left(range(9))
    network.stages.requires_grad_(False)
    network(torch.randn(2, 3, 8, 8)).sum().backward()
    assert all(own.grad is None for own in network.stages.parameters())
    assert network.conv1.weight.grad is not None


def test_all_blocks_share_draws_that_follow_torchs_seed():
    def kept(network):
        return [not block.is_left_out() for _ in range(20) for block in blocks_of(network)]

    torch.manual_seed(3)
    one = ResNet(10, 20, survival_probability=0.5)
    state = torch.get_rng_state()
    torch.manual_seed(3)
    other = ResNet(10, 20)
    assert torch.equal(state, torch.get_rng_state())  # start values do not depend on the draws
    assert all(block.draws is None for block in blocks_of(other))
    torch.manual_seed(3)
    again = copy.deepcopy(ResNet(10, 20, survival_probability=0.5))
    assert len({id(block.draws) for block in blocks_of(again)}) == 1
    draws = kept(one)
    assert draws == kept(again)
    assert 100 < sum(draws) < 170  # of 180; expected 135
    torch.manual_seed(4)
    assert draws != kept(ResNet(10, 20, survival_probability=0.5))


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_preactivation_is_shared_with_the_shortcut_where_the_shape_changes(shortcut):
    unit = PreActivationUnit(16, 32, 2, basic_branch(16, 32, stride=2), shortcut).eval()
    nn.init.zeros_(unit.branch[-1].weight)
    nn.init.normal_(unit.bn.weight)
    nn.init.normal_(unit.bn.bias)
    x = torch.randn(2, 16, 8, 8)
    assert torch.equal(unit(x), unit.shortcut(F.relu(unit.bn(x))))


def test_preactivation_unit_adds_to_its_raw_input():
    unit = PreActivationUnit(16, 16, 1, basic_branch(16, 16, stride=1), "B").eval()
    x = torch.randn(2, 16, 8, 8)
    assert torch.equal(unit(x), x + unit.branch(F.relu(unit.bn(x))))


def test_first_preactivation_can_come_before_the_split():
    torch.manual_seed(0)
    split, published = (
        PreActResNet(10, 14, "basic", "A", first_activation=where).eval()
        for where in ("in_branch", "before_split")
    )
    published.load_state_dict(split.state_dict())
    maps = published.conv1(torch.randn(2, 3, 8, 8))
    first, second = published.stages[0]
    active = F.relu(first.bn(maps))
    assert torch.equal(first(maps), active + first.branch(active))
    assert torch.equal(second(maps), split.stages[0][1](maps))  # only the first unit
    assert torch.equal(split.stages[0][0](maps), maps + first.branch(active))


def test_the_first_bottleneck_activates_before_the_split_in_any_case():
    torch.manual_seed(0)
    one, other = (
        PreActResNet(10, 11, first_activation=where) for where in ("in_branch", "before_split")
    )
    other.load_state_dict(one.state_dict())
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(one(images), other(images))


def test_stride_in_the_first_convolution_saves_multiply_adds():
    # pytorchcv's preresnet164bn has it in the 3x3, resnet-pre-act.lua in the first 1x1
    for stride, multiply_adds in (("3x3", 247_646_720), ("first", 244_500_992)):
        network = on_meta(PreActResNet, 164, stride=stride)
        assert cost.multiply_adds(network, 32) == multiply_adds
        assert cost.count_parameters(network) == 1_703_258
        for stage, halving in zip(network.stages, (1, 2, 2), strict=True):
            strides = [stage[0].branch[index].stride[0] for index in (0, 3)]
            assert strides == ([halving, 1] if stride == "first" else [1, halving])


def test_preact_resnet_ends_with_batch_norm_and_relu():
    network = PreActResNet(10, depth=11).eval()
    nn.init.constant_(network.bn.bias, -1e6)  # after ReLU nothing is left but the bias of fc
    nn.init.constant_(network.fc.bias, 3.0)
    assert torch.equal(network(torch.randn(2, 3, 16, 16)), torch.full((2, 10), 3.0))


def test_wide_resnet_drops_between_the_two_convolutions_of_each_unit(monkeypatch):
    dropped, convolved = [], []

    def dropout(x, p, training, inplace):
        assert p == 0.3
        assert training
        dropped.append(x.clone())
        return dropped[-1]

    monkeypatch.setattr("torch.nn.functional.dropout", dropout)
    network = on_meta(WideResNet, 16, 2, dropout=0.3)
    for unit in (unit for stage in network.stages for unit in stage):
        unit.branch[-1].register_forward_hook(lambda module, args, output: convolved.append(args[0]))
    network(torch.empty(2, 3, 32, 32, device="meta"))
    assert len(dropped) == 6
    assert all(before is after for before, after in zip(dropped, convolved, strict=True))


@pytest.mark.parametrize(
    "network",
    [ResNet(10, 20, "B"), PreActResNet(10, 20), PreActResNet(10, 14, "basic"), WideResNet(10, 10, 2)],
    ids=lambda network: type(network).__name__,
)
def test_start_values_divide_by_the_output_channels(network):
    checked = 0
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 4000:
            kernel_area = module.kernel_size[0] * module.kernel_size[1]
            expected = math.sqrt(2 / (kernel_area * module.out_channels))
            assert module.weight.std().item() == pytest.approx(expected, rel=0.06)
            checked += 1
    assert checked > 3
    assert (network.fc.bias == 0).all()


def test_start_values_by_the_input_channels_are_those_of_the_wide_resnets_code():
    torch.manual_seed(0)
    network = WideResNet(10, 16, 4, init="fan_in")  # models/utils.lua, MSRinit: 2 / (kW kH nInputPlane)
    unit = network.stages[0][0]
    assert network.conv1.weight.std().item() == pytest.approx(0.272, rel=0.1)  # of 432 values
    assert unit.shortcut.weight.std().item() == pytest.approx(0.354, rel=0.07)  # 16 -> 64, 1x1
    assert unit.branch[0].weight.std().item() == pytest.approx(0.118, rel=0.03)  # 16 -> 64, 3x3
    assert network.stages[2][1].branch[4].weight.std().item() == pytest.approx(0.0295, rel=0.01)


@pytest.mark.parametrize(
    ("network_class", "options", "message"),
    [
        (ResNet, {"depth": 111}, r"depth=111: must be 6n \+ 2 .*such as 110 or 116; .*depth=110"),
        (ResNet, {"depth": 2}, "such as 8 or 14"),
        (ResNet, {"depth": 20, "shortcut": "C"}, "shortcut=C: must be one of A, B"),
        (ResNet, {"depth": 20, "survival_probability": 0}, "survival_probability=0: .*above 0"),
        (ResNet, {"depth": 20, "survival_probability": 1.5}, "survival_probability=1.5"),
        (ResNet, {"depth": 20, "shortcut": "none", "survival_probability": 0.5}, "must be null"),
        (PreActResNet, {"depth": 1000}, r"9n \+ 2 .*bottleneck.*992 or 1001; .*depth=1001"),
        (PreActResNet, {"depth": 163, "block": "basic"}, r"6n \+ 2 .*basic.* such as 158 or 164"),
        (PreActResNet, {"depth": 164, "block": "wide"}, "block=wide: must be one of basic, bottl"),
        (PreActResNet, {"depth": 164, "shortcut": "D"}, "shortcut=D"),
        (PreActResNet, {"depth": 164, "stride": 2}, "stride=2: must be one of 3x3, first"),
        (PreActResNet, {"depth": 20, "block": "basic", "first_activation": True}, "in_branch, before"),
        (ResNet, {"depth": 20, "init": "kaiming"}, "init=kaiming: must be one of fan_out, fan_in"),
        (ResNet, {"depth": 20, "bias": 1}, "bias=1"),
        (WideResNet, {"depth": 26, "widen_factor": 4}, r"6n \+ 4 .*such as 22 or 28; .*depth=28"),
        (WideResNet, {"depth": 28, "widen_factor": 0}, "widen_factor=0"),
        (WideResNet, {"depth": 28, "widen_factor": 2, "dropout": 1.0}, "dropout=1.0"),
    ],
)
def test_wrong_argument_is_named_with_a_right_one(network_class, options, message):
    with pytest.raises(OptionError, match=message):
        on_meta(network_class, **options)
