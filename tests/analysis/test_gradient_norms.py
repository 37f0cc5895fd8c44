"""Gradient norms are those of autograd, and measuring them does not change the network."""

import copy
import random

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from densenet_cli.analysis.gradients.figure import draw
from densenet_cli.analysis.gradients.gradient_norms import gradient_norms
from densenet_cli.analysis.network_label import NetworkLabel
from densenet_cli.models.densenet import DenseNet
from densenet_cli.models.resnet import ResNet

IMAGES = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([0, 1, 2, 3, 4, 5])


@pytest.mark.parametrize("build", [lambda: ResNet(6, 8), lambda: DenseNet(6, 4, 10)])
def test_norms_are_those_of_a_backward_pass(build):
    network = build()
    state = copy.deepcopy(network.state_dict())
    twin = copy.deepcopy(network).train()
    found = gradient_norms(network, [(IMAGES, LABELS)])
    outputs = {}
    for name, module in twin.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(lambda _, __, out, name=name: outputs.update({name: out}))
    logits = twin(IMAGES)
    for out in outputs.values():
        out.retain_grad()
    F.cross_entropy(logits, LABELS, reduction="sum").backward()
    assert [layer.name for layer in found] == list(outputs)
    for layer in found:
        weight = twin.get_submodule(layer.name).weight
        assert layer.weight == pytest.approx(float(weight.grad.norm() / 6), rel=1e-4)
        assert layer.relative == pytest.approx(layer.weight / float(weight.detach().norm()))
        expected = outputs[layer.name].grad.flatten(1).norm(dim=1).mean()
        assert layer.output == pytest.approx(float(expected), rel=1e-4)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    assert all(parameter.grad is None for parameter in network.parameters())


def test_gradients_before_an_in_place_relu_are_found():
    layers = nn.Conv2d(3, 4, 1), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(4 * 64, 6)
    network = nn.Sequential(*layers)
    found = gradient_norms(network, [(IMAGES, LABELS)])
    maps = layers[0](IMAGES).detach().requires_grad_()
    F.cross_entropy(layers[3](F.relu(maps).flatten(1)), LABELS, reduction="sum").backward()
    assert found[0].output == pytest.approx(float(maps.grad.flatten(1).norm(dim=1).mean()))


def test_norms_are_means_over_batches():
    network = ResNet(6, 8)
    halves = [(IMAGES[:3], LABELS[:3]), (IMAGES[3:], LABELS[3:])]
    one, two = (gradient_norms(network, [half]) for half in halves)
    for mean, first, second in zip(gradient_norms(network, halves), one, two, strict=True):
        assert mean.weight == pytest.approx((first.weight + second.weight) / 2)
        assert mean.output == pytest.approx((first.output + second.output) / 2)


def test_empty_batches_are_refused():
    with pytest.raises(ValueError, match="no images"):
        gradient_norms(ResNet(6, 8), [])


def test_figure_shows_every_layer_between_input_and_output():
    found = gradient_norms(ResNet(6, 8), [(IMAGES, LABELS)])
    drawing = draw({NetworkLabel("ResNet-8", "ResNet"): found})
    weights, outputs = (axes.get_lines()[0] for axes in drawing.figure.axes)
    assert list(weights.get_ydata()) == [layer.weight for layer in found]
    assert list(outputs.get_ydata()) == [layer.output for layer in found]
    assert list(weights.get_xdata())[:: len(found) - 1] == [0, 1]
    assert [point["name"] for point in drawing.points] == [layer.name for layer in found]


def test_a_block_that_stochastic_depth_leaves_out_counts_as_zero():
    class InTurn(random.Random):
        """Leaves out the second block of three for the first batch only."""

        asked = 0

        def random(self):
            self.asked += 1
            return 0.99 if self.asked == 2 else 0.0

    torch.manual_seed(0)
    network = ResNet(10, 8, survival_probability=0.5)
    draws = InTurn()
    for stage in network.stages:
        stage[0].draws = draws
    batches = [(torch.randn(4, 3, 8, 8), torch.arange(4)) for _ in range(2)]
    found = {one.name: one.weight for one in gradient_norms(network, batches)}
    assert list(found) == [
        name for name, _ in network.named_modules() if "conv" in name or name == "fc"
    ]
    (second,) = gradient_norms(network, batches[1:])[3:4]
    assert second.name == "stages.1.0.conv1"
    assert found[second.name] == pytest.approx(second.weight / 2)
