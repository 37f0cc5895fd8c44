"""Gradients before training against depth: by theory, by hand, and as a command."""

import csv
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from densenet_cli.analysis.depth.command import depth
from densenet_cli.analysis.depth.untrained import Untrained, by_depth, growth, untrained
from densenet_cli.analysis.gradients.gradient_norms import LayerGradient
from densenet_cli.analysis.output import Output
from densenet_cli.models.resnet import ResNet
from densenet_cli.options import OptionError, UserError

IMAGES = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))
BATCH = (IMAGES, torch.tensor([0, 1, 2, 3, 4, 5]))
SMALL = ["model=plain,resnet model.depth=8,14", "model=densenet_bc model.depth=10,16"]


def wide(layers):
    """Layers of 400 units with batch norm and ReLU, without shortcuts."""
    hidden = (
        (nn.Linear(400, 400, bias=False), nn.BatchNorm1d(400), nn.ReLU()) for _ in range(layers - 1)
    )
    return nn.Sequential(*(module for layer in hidden for module in layer), nn.Linear(400, 6))


def test_each_layer_of_a_wide_chain_multiplies_the_norm_as_in_theory():
    # Yang et al. 2019 (arXiv:1902.08129): π / (π - 1) for the square, so 1.211 for the norm.
    chance = torch.Generator().manual_seed(0)
    batches = [(torch.randn(256, 400, generator=chance), torch.arange(256) % 6)]
    shallow, deep = (list(untrained(lambda n=n: wide(n), batches, seeds=2)) for n in (8, 20))
    assert growth(shallow, deep) == pytest.approx(math.sqrt(math.pi / (math.pi - 1)), rel=0.02)


def test_growth_is_the_geometric_mean_per_layer():
    def of(first, layers):
        return Untrained(0, [LayerGradient("", first, 1, 1)] * layers, 0, None)

    assert growth([of(2, 3), of(8, 3)], [of(32, 6)]) == pytest.approx(2)  # 4 -> 32 in 3 layers
    assert growth([of(9, 2)], [of(1, 4)]) == pytest.approx(1 / 3)


def test_weights_are_drawn_by_their_seeds():
    draws = list(untrained(lambda: ResNet(6, 8), [BATCH], seeds=3))
    torch.manual_seed(1)
    network = ResNet(6, 8)
    F.cross_entropy(network.train()(IMAGES), BATCH[1]).backward()
    assert draws[1].first == pytest.approx(float(network.conv1.weight.grad.norm()), rel=1e-4)
    assert [draw.seed for draw in draws] == [0, 1, 2]
    assert len({draw.first for draw in draws}) == 3
    assert all(draw.depth == 8 and draw.units == 3 for draw in draws)
    assert all(0 < draw.effective_depth < 3 for draw in draws)
    assert by_depth(draws) == {8: draws}


def test_lines_give_a_figure_its_numbers_and_a_table(tmp_path, capsys):
    depth(SMALL, 16, 2, Output(tmp_path, ["svg"]))
    out = capsys.readouterr().out
    with (tmp_path / "depth.csv").open() as file:
        rows = list(csv.DictReader(file))
    first = [row for row in rows if row["position"] == "1"]
    assert [(row["network"], row["depth"], row["seed"]) for row in first] == [
        (network, depth, seed)
        for network, depths in (
            ("Plain network", ("8", "14")),
            ("ResNet", ("8", "14")),
            ("DenseNet-BC", ("10", "16")),
        )
        for depth in depths
        for seed in "01"
    ]
    assert {(row["network"], row["units"]) for row in first if row["effective_depth"]} == {
        *(("ResNet", "3"), ("ResNet", "6"), ("DenseNet-BC", "3"), ("DenseNet-BC", "6"))
    }
    assert all(float(row["weight"]) > 0 for row in rows)
    assert "16 training images of digits" in " ".join(out.split())
    assert " of 6" in out
    assert (tmp_path / "depth.svg").exists()


def test_networks_that_differ_in_more_than_depth_are_lines_of_their_own(tmp_path):
    line = "model=densenet_bc model.depth=10 model.growth_rate=4,8"
    depth([line], 8, 1, Output(tmp_path, ["svg"]))
    with (tmp_path / "depth.csv").open() as file:
        found = {row["network"] for row in csv.DictReader(file)}
    assert found == {"DenseNet-BC, k=4", "DenseNet-BC, k=8"}


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        (["model=resnet model.depth=9"], OptionError, r"depth=9: must be 6n \+ 2"),
        (["model=resnet 'model.depth=8"], UserError, "model=resnet 'model.depth=8: cannot be read"),
        (["model=resnet data=digits,cifar10"], UserError, "must see the same images: type data= once"),
        (["model=resnet", "seeds=5"], UserError, "seeds=5: only model and data matter .* --seeds"),
        (["model=torchvision model.name=alexnet"], UserError, "alexnet: cannot take 8 images of 8x8"),
    ],
)
def test_errors_are_clear(tmp_path, words, error, said):
    with pytest.raises(error, match=said):
        depth(words, 8, 1, Output(tmp_path, ["svg"]))
    assert not list(tmp_path.iterdir())
