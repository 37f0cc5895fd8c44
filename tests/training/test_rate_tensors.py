"""Learning rates as tensors during the steps of an optimizer, and as numbers between them."""

import copy

import torch
from torch import nn

from densenet_cli.training.rate_tensors import RateTensors, are_needed


def test_steps_are_those_with_numbers_rounded_to_float32():
    plain = nn.Linear(50, 20)
    network = copy.deepcopy(plain)
    groups = [[{"params": [one.weight]}, {"params": [one.bias]}] for one in (plain, network)]
    options = {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-4, "fused": True}
    expected, optimizer = (torch.optim.SGD(group, 0.1, **options) for group in groups)
    RateTensors(optimizer)
    for rates in ((0.1, 0.3), (0.1, 0.3), (0.03, 0.3), (1e-3, 0.01)):
        for one in (expected, optimizer):
            for group, rate in zip(one.param_groups, rates, strict=True):
                group["lr"] = rate
        images = torch.randn(4, 50)
        for one, other in ((expected, plain), (optimizer, network)):
            one.step(lambda: other(images).square().sum().backward())  # noqa: B023
            one.zero_grad()
            assert [group["lr"] for group in one.param_groups] == list(rates)
        assert torch.equal(plain.weight, network.weight)
        assert torch.equal(plain.bias, network.bias)


def test_only_the_fused_sgd_on_a_gpu_needs_them():
    weights = [nn.Parameter(torch.ones(2))]
    for optimizer in (torch.optim.SGD(weights, 0.1, fused=True), torch.optim.Adam(weights)):
        assert not are_needed(optimizer)
