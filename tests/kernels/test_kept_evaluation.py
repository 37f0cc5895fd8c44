"""Evaluation keeps what it made of a network for the next batch, unless the network has changed."""

import copy
import gc
import pickle
import weakref

import pytest
import torch
from test_fused_densenet import NETWORKS, assert_close, pair, threads_of
from torch import nn
from torch.autograd import forward_ad
from torch.nn.utils import fusion as torch_fusion

from densenet_cli.kernels import unfuse
from densenet_cli.kernels.cpu import engine, evaluation
from densenet_cli.kernels.fusion import CHECKED

SMALL = {"growth_rate": 8, "depth": 121, "block_config": [2, 1, 2], "stem": "imagenet"}
LAYER = "features.denseblock1.denselayer2"


def evaluated(network, images):
    """The logits in evaluation without gradients."""
    with torch.no_grad():
        return network.eval()(images)


@pytest.fixture
def packings(monkeypatch):
    """A list that gets an entry whenever weights are packed."""
    packed = []

    class Counted(evaluation.PackedTrunk):
        def __init__(self, *arguments):
            packed.append(arguments)
            super().__init__(*arguments)

    monkeypatch.setattr(engine, "PackedTrunk", Counted)
    return packed


def weight_of(network, name=f"{LAYER}.conv2"):
    return network.get_submodule(name).weight


def step_of_an_optimizer(network):
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    network.train()(torch.randn(4, 3, 64, 64, dtype=torch.float64)).square().mean().backward()
    optimizer.step()


def loaded(network, **options):
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.load_state_dict({name: tensor / 2 for name, tensor in state.items()}, **options)


def swapped_with_averages(network):
    """As some averages of weights do it: without a trace in the parameters' versions."""
    for parameter in network.parameters():
        average = parameter.data / 3
        parameter.data.copy_(average)


def one_number(network):
    weight_of(network).detach().numpy()[3, 2, 1, 0] += 1


def exchanged_outputs(network):
    """The same numbers in another order."""
    weight = weight_of(network).data
    weight.copy_(weight.flip(0))


def in_inference_mode(network):
    with torch.inference_mode():
        weight_of(network).mul_(2)


def fused_with_its_norm(network):
    """A convolution that takes over the batch norm after it, as tools for deployment do."""
    layer = network.get_submodule(LAYER)
    layer.conv1 = torch_fusion.fuse_conv_bn_eval(layer.conv1.eval(), layer.norm2.eval())
    layer.norm2 = nn.Identity()


def other_order_of_memory(network):
    """The same memory, read in another order."""
    weight = weight_of(network)
    weight.data = weight.data.transpose(2, 3)


def passed_in_training(network):
    network.train()(torch.randn(4, 3, 64, 64, dtype=torch.float64))


def set_of(name, attribute, value):
    return lambda network: setattr(network.get_submodule(name), attribute, value)


CHANGES = {
    "optimizer": step_of_an_optimizer,
    "load_state_dict": loaded,
    "load_state_dict by assigning": lambda network: loaded(network, assign=True),
    "data of other memory": lambda network: setattr(weight_of(network), "data", 2 * weight_of(network)),
    "numbers of data": swapped_with_averages,
    "one number, by numpy": one_number,
    "another order of outputs": exchanged_outputs,
    "another order of memory": other_order_of_memory,
    "another sign": lambda network: weight_of(network).data.neg_(),
    "the stem": lambda network: weight_of(network, "features.conv0").data.mul_(2),
    "a transition": lambda network: weight_of(network, "features.transition1.conv").data.mul_(2),
    "in inference mode": in_inference_mode,
    "a new parameter": lambda network: setattr(
        network.get_submodule(f"{LAYER}.conv2"), "weight", nn.Parameter(2 * weight_of(network))
    ),
    "a new classifier": lambda network: setattr(
        network, "classifier", nn.Linear(network.classifier.in_features, 7).double()
    ),
    "running mean": lambda network: network.get_submodule(f"{LAYER}.norm1").running_mean.add_(1),
    "running variance": lambda network: network.features.norm5.running_var.mul_(4),
    "β of the stem": lambda network: network.features.norm0.bias.data.add_(1),
    "running statistics of a training pass": passed_in_training,
    "running statistics anew": lambda network: network.get_submodule(
        f"{LAYER}.norm1"
    ).reset_running_stats(),
    "epsilon": set_of(f"{LAYER}.norm1", "eps", 0.5),
    "a hook": lambda network: network.get_submodule(LAYER).register_forward_hook(
        lambda module, inputs, output: 2 * output
    ),
    "a class": lambda network: setattr(network.features.norm0, "__class__", Halving),
    "a method": set_of(f"{LAYER}.norm1", "forward", torch.sin),
    "a module": set_of(LAYER, "norm1", nn.Identity()),
    "norm in convolution": fused_with_its_norm,
    "momentum": set_of(f"{LAYER}.norm1", "momentum", None),
    "float": lambda network: network.float(),
}
KEEP_THE_LOGITS = {"norm in convolution", "momentum", "float"}  # but for rounding


class Halving(nn.BatchNorm2d):
    """A batch norm of the user."""

    def forward(self, x):
        """Half of it."""
        return super().forward(x) / 2


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_between_two_batches_is_seen(name):
    reference, fused = pair(SMALL)
    passed_in_training(reference)
    fused.load_state_dict(reference.state_dict())
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    before = [evaluated(fused, images) for _ in range(2)][-1]
    for network in (reference, fused):
        torch.manual_seed(1)
        CHANGES[name](network)
    images = images.to(next(fused.parameters()).dtype)
    found, expected = evaluated(fused, images), evaluated(reference, images)
    assert_close({"": found}, {"": expected}, 1e-3 if name == "float" else 1e-11)
    if name not in KEEP_THE_LOGITS:
        assert found.shape != before.shape or (found - before).abs().max() > 1e-6


@pytest.mark.parametrize("name", ["imagenet stem", "BC", "plain"])
def test_weights_are_packed_once_for_many_batches(name, packings):
    options, (_, height, width) = NETWORKS[name]
    reference, fused = pair(options, torch.float32)
    for count in (1, 3, 2):
        images = torch.randn(count, 3, height, width)
        assert_close({"": evaluated(fused, images)}, {"": evaluated(reference, images)}, 1e-3)
        with torch.autocast("cpu", torch.bfloat16), threads_of(count):
            evaluated(fused, images)
    assert len(packings) == 2  # one for each number format
    weight = fused.features.denseblock2.denselayer1.conv1.weight
    weight.data.mul_(2)
    evaluated(fused, images)
    assert len(packings) == 3
    weight.data.div_(2)
    evaluated(fused, images)
    assert len(packings) == 4


def test_forward_derivatives_are_those_of_the_modules():
    images = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    tangents = []
    with torch.no_grad(), forward_ad.dual_level():
        for network in pair(SMALL):
            logits = network.eval()(forward_ad.make_dual(images, torch.ones_like(images)))
            tangents.append(forward_ad.unpack_dual(logits).tangent)
    assert_close({"": tangents[1]}, {"": tangents[0]}, 1e-11)


def test_copies_and_pickles_keep_nothing_and_use_their_own_weights():
    _, fused = pair(SMALL)
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    before = evaluated(fused, images)
    for other in (copy.deepcopy(fused), copy.copy(fused), pickle.loads(pickle.dumps(fused))):
        assert CHECKED not in vars(other)
        assert torch.equal(evaluated(other, images), before)
    other = copy.deepcopy(fused)
    evaluated(other, images)
    weight_of(other).data.mul_(2)
    assert not torch.equal(evaluated(other, images), before)
    assert torch.equal(evaluated(fused, images), before)
    assert CHECKED not in vars(unfuse(fused))


def test_a_network_that_was_evaluated_is_freed_at_once():
    _, fused = pair(SMALL)
    evaluated(fused, torch.randn(1, 3, 64, 64, dtype=torch.float64))
    weight = weakref.ref(weight_of(fused))
    gc.disable()
    try:
        del fused
        assert weight() is None
    finally:
        gc.enable()


def test_training_keeps_no_packed_weights():
    _, fused = pair(SMALL)
    images = torch.randn(4, 3, 64, 64, dtype=torch.float64)
    evaluated(fused, images)
    trunk = vars(fused)[CHECKED].parts.trunk
    assert trunk.packed
    fused.train()(images)
    fused.train()(images)
    assert not vars(fused)[CHECKED].parts.trunk.packed
