"""The Triton kernels on a real GPU: the modules' numbers, and the same bits each time."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from densenet_cli.kernels import fuse
from densenet_cli.models.densenet import DenseNet

pytestmark = pytest.mark.gpu

BC = {"growth_rate": 12, "depth": 22}
PLAIN = {"growth_rate": 12, "depth": 13, "bottleneck": False, "compression": 1.0}
STEM = {"growth_rate": 32, "depth": 121, "block_config": [2, 3], "stem": "imagenet"}


def network(options):
    made = DenseNet(10, **options)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return made.cuda().to(memory_format=torch.channels_last)


def step(made, batch, autocast=False):
    """Logits, gradients and buffers after a training step."""
    made.zero_grad()
    with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
        logits = made(batch)
    F.cross_entropy(logits.double(), torch.arange(len(batch), device="cuda") % 10).backward()
    gradients = {name: parameter.grad.clone() for name, parameter in made.named_parameters()}
    return {"logits": logits.detach(), **gradients, **copy.deepcopy(dict(made.named_buffers()))}


def batch_of(number, size, dtype=torch.float32):
    images = torch.randn(number, 3, *size, device="cuda", dtype=dtype)
    return images.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("options", "number", "size"),
    [(BC, 16, (32, 32)), (BC, 3, (9, 7)), (PLAIN, 8, (32, 32)), (STEM, 4, (70, 63))],
    ids=["BC", "odd sizes", "plain", "imagenet stem"],
)
def test_a_step_in_float32_is_that_of_the_modules_in_float64(options, number, size, monkeypatch):
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    made = network(options)
    batch = batch_of(number, size)
    expected = step(copy.deepcopy(made).double(), batch.double())
    found = step(fuse(made), batch)
    for name, true in expected.items():
        # A number may be rounded across zero before a ReLU.
        scale = true.double().norm().clamp(min=1e-3)
        assert (found[name].double() - true.double()).norm() < 5e-3 * scale, name


def test_two_steps_from_the_same_weights_leave_the_same_bits():
    made = fuse(network({**BC, "dropout": 0.2}))
    same = copy.deepcopy(made)
    batch = batch_of(64, (32, 32))
    steps = []
    for one in (made, same):
        torch.manual_seed(3)
        steps.append([step(one, batch, autocast=True) for _ in range(2)])
    for once, twice in zip(*steps, strict=True):
        assert all(torch.equal(once[name], twice[name]) for name in once)
