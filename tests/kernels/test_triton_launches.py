"""How many kernels a training step launches on a GPU, counted without one: nothing is computed.

Tensors of torch's device "meta" have shapes but no numbers, and Triton's kernels are not launched.
"""

import importlib.util
import math
from collections import Counter

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from densenet_cli.kernels.libraries import parts_of
from densenet_cli.models.densenet import DenseNet

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="there is no Triton for this machine"
)

LISTED = {1: 110, 2: 64, 3: 48, 4: 36, 5: 30}
"""Lists of tensors in an operation of torch._foreach -> tensors that one launch takes of each."""


class _Launches(TorchDispatchMode):
    """Counts torch's operations that compute something on their device."""

    def __init__(self):
        super().__init__()
        self.count = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = func.__name__.partition(".")[0]
        lists = [arg for arg in args if isinstance(arg, (list, tuple)) and torch.is_tensor(arg[0])]
        if lists and name.startswith(("_foreach", "_fused")):
            results = not name.endswith("_")
            self.count[name] += math.ceil(len(lists[0]) / LISTED[len(lists) + results])
        elif not _only_looks(func):
            self.count[name] += 1
        return result


def _only_looks(func):
    """Whether an operation returns a view of its argument or new memory, and computes nothing."""
    if func.__name__.startswith(("empty", "new_empty")):
        return True
    aliases = [argument.alias_info for argument in func._schema.arguments]
    return func.is_view or any(alias is not None and not alias.is_write for alias in aliases)


def launches(monkeypatch, images, **options):
    """The launches of a training step in bfloat16, by kernel or operation."""
    from densenet_cli.kernels.triton import engine, gradients, launch, weights

    counting = _Launches()

    def count(kernel, grid, *arguments, **constants):
        counting.count[kernel.__name__] += 1

    for module in (engine, gradients, launch, weights):
        monkeypatch.setattr(module, "launch", count)
    with torch.device("meta"):
        made = DenseNet(10, **options)
        batch = torch.empty(images, 3, 32, 32, dtype=torch.bfloat16)
        labels = torch.empty(images, dtype=torch.int64)
    conv, classifier = made.features.conv0, made.classifier
    with counting:
        # What autocast does outside of the kernels.
        stem = F.conv2d(batch, conv.weight.bfloat16(), padding=conv.padding)
        means = parts_of(made).trunk(stem, engine.TritonEngine(), training=True)
        logits = F.linear(means, classifier.weight.bfloat16(), classifier.bias.bfloat16())
        F.cross_entropy(logits.float(), labels).backward()
    # The fused optimizer's lists: weights, gradients, momentum.
    counting.count["_fused_sgd_"] = math.ceil(len(list(made.parameters())) / LISTED[3])
    return counting.count


PLAIN = {"bottleneck": False, "compression": 1.0}


@pytest.mark.parametrize(
    ("depth", "options", "most"),
    [
        pytest.param(100, {}, 320, id="DenseNet-BC (100, 12)"),
        pytest.param(40, PLAIN, 220, id="DenseNet (40, 12)"),
    ],
)
def test_a_training_step_launches_few_kernels(monkeypatch, depth, options, most):
    options = {"depth": depth, "growth_rate": 12, **options}
    first, later = (launches(monkeypatch, 64, **options) for _ in range(2))
    assert later.total() <= first.total() <= most, first
