"""Paths of known length: chains, and residual branches of known gain."""

import copy

import pytest
import torch
from torch import nn

from densenet_cli.analysis.gradients.effective_depth import branching_units, effective_depth
from densenet_cli.analysis.lesions.units import Block, find_units
from densenet_cli.models.densenet import DenseNet
from densenet_cli.models.resnet import ResNet

IMAGES = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))
BATCH = [(IMAGES, torch.tensor([0, 1, 2, 3, 4, 5]))]


class Gain(nn.Module):
    """x + gain x, or gain x alone: a linear residual block."""

    def __init__(self, gain, shortcut):
        super().__init__()
        self.branch = nn.Conv2d(3, 3, 1, groups=3, bias=False)
        nn.init.constant_(self.branch.weight, gain)
        self.shortcut = shortcut

    def forward(self, x):
        return self.branch(x) + x if self.shortcut else self.branch(x)


def linear(gain, shortcut, blocks=7):
    network = nn.Sequential(*(Gain(gain, shortcut) for _ in range(blocks)), nn.Flatten())
    units = [Block(str(i), 0, network[i].branch, (network, str(i))) for i in range(blocks)]
    return nn.Sequential(network, nn.Linear(3 * 64, 6)), units


def test_effective_depth_of_a_chain_is_its_number_of_units():
    assert effective_depth(*linear(0.9, shortcut=False), BATCH) == pytest.approx(7, rel=1e-4)


@pytest.mark.parametrize("gain", [0.1, 1.0, 3.0])
def test_paths_through_equal_branches_are_binomial(gain):
    # (1 + t gain)^7: each of 7 units is on a path with probability gain / (1 + gain).
    expected = 7 * gain / (1 + gain)
    assert effective_depth(*linear(gain, shortcut=True), BATCH) == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("build", [lambda: ResNet(6, 20), lambda: DenseNet(6, 4, 22)])
def test_effective_depth_is_between_0_and_the_number_of_units(build):
    torch.manual_seed(0)
    network = build()
    state = copy.deepcopy(network.state_dict())
    units = find_units(network)
    assert len(units) == 9
    assert 0.5 < effective_depth(network, units, BATCH) < 8.5
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    assert all(parameter.grad is None for parameter in network.parameters())


def test_branches_without_a_gradient_are_on_no_path():
    network = ResNet(6, 20)
    units = find_units(network)
    for unit in units:
        nn.init.zeros_(unit.output.weight)  # of the last batch norm
    assert effective_depth(network, units, BATCH) == pytest.approx(0, abs=1e-4)


def test_empty_batches_are_refused():
    with pytest.raises(ValueError, match="no images"):
        effective_depth(*linear(1, shortcut=True), [])


def test_networks_without_branches_have_no_units_to_count():
    assert branching_units(ResNet(6, 20, "none")) == []
    assert branching_units(nn.Linear(3, 2)) == []
    assert len(branching_units(ResNet(6, 20))) == 9
