"""A fused DenseNet that a user then changes: it computes what its changed modules compute."""

import pytest
import torch
import torchvision
from test_fused_densenet import assert_close, pair, step, with_fused_copy
from torch import nn
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import weight_norm

from densenet_cli.kernels import is_fused
from densenet_cli.models.densenet import BottleneckLayer, PlainLayer
from densenet_cli.models.timm_models import timm_model


class OtherLayer(BottleneckLayer):
    """A user's own layer, which scales its maps."""

    def forward(self, x):
        return 2 * super().forward(x)


def changed(name, **values):
    """An edit that sets attributes of a module."""

    def edit(network):
        for key, value in values.items():
            setattr(network.get_submodule(name), key, value)

    return edit


def replaced(name, make):
    """An edit that replaces a module by what `make` returns for it."""

    def edit(network):
        parent, _, own = name.rpartition(".")
        place = network.get_submodule(parent)
        setattr(place, own, make(getattr(place, own)).to(torch.float64))

    return edit


def reweighted(name, make):
    """An edit that replaces the weight of a module by what `make` returns for it."""

    def edit(network):
        module = network.get_submodule(name)
        module.weight = nn.Parameter(make(module.weight.data))

    return edit


def shared(name, other):
    """An edit that replaces a module by another module of the network."""
    return lambda network: replaced(name, lambda _: network.get_submodule(other))(network)


def rewritten(name):
    """An edit that replaces the forward method of a module, as tools that wrap modules do."""

    def edit(network):
        module = network.get_submodule(name)
        before = module.forward
        module.forward = lambda x: 2 * before(x)

    return edit


def hooked(name, register):
    """An edit that registers a hook that doubles something."""
    return lambda network: getattr(network.get_submodule(name), register)(HOOKS[register])


def conv(*sizes, **options):
    """An argument of `replaced` that returns a convolution."""
    return lambda _: nn.Conv2d(*sizes, **{"bias": False, **options})


HOOKS = {
    "register_forward_hook": lambda module, inputs, output: 2 * output,
    "register_forward_pre_hook": lambda module, inputs: (2 * inputs[0],),
    "register_full_backward_hook": lambda module, gradients, _: (2 * gradients[0],),
    "register_full_backward_pre_hook": lambda module, gradients: (2 * gradients[0],),
}
LAYER, OTHER = "features.denseblock1.denselayer2", "features.denseblock1.denselayer1"
ONE, THREE, NORM = f"{LAYER}.conv1", f"{LAYER}.conv2", f"{LAYER}.norm1"  # 12 -> 16 -> 4 maps
MOVE = "features.transition1"  # 16 -> 8 maps
EDITS = {
    "stride": changed(ONE, stride=(2, 2)),
    "stride of a transition": changed(f"{MOVE}.conv", stride=(2, 2)),
    "stride of the stem": changed("features.conv0", stride=(2, 2)),
    "stride of the stem beyond the image": changed("features.conv0", stride=(4, 4)),
    "no padding": changed(THREE, padding=(0, 0)),
    "padding by name": changed(THREE, padding="same"),
    "padding of a transition": changed(f"{MOVE}.conv", padding=(1, 1)),
    "circular padding": replaced(THREE, conv(16, 4, 3, padding=1, padding_mode="circular")),
    "dilation": changed(THREE, dilation=(2, 2)),
    "dilation and padding": changed(THREE, dilation=(2, 2), padding=(2, 2)),
    "groups": replaced(THREE, conv(16, 4, 3, padding=1, groups=4)),
    "groups of a transition": replaced(f"{MOVE}.conv", conv(16, 8, 1, groups=2)),
    "bias": replaced(ONE, conv(12, 16, 1, bias=True)),
    "kernel of 5": replaced(THREE, conv(16, 4, 5, padding=2)),
    "kernel of 3x1": replaced(THREE, conv(16, 4, (3, 1), padding=(1, 0))),
    "kernel of 1 for 3": replaced(THREE, conv(16, 4, 1)),
    "kernel of 3 for 1": replaced(ONE, conv(12, 16, 3, padding=1)),
    "more maps than the next module reads": replaced(ONE, conv(12, 20, 1)),
    "weight of fewer inputs": reweighted(THREE, lambda weight: weight[:, :8].clone()),
    "weight in another order of memory": reweighted(THREE, lambda weight: weight.mT.contiguous().mT),
    "frozen weight": lambda network: network.get_submodule(THREE).requires_grad_(False),
    "frozen norm": lambda network: network.get_submodule(NORM).requires_grad_(False),
    "parametrization": lambda network: weight_norm(network.get_submodule(THREE)),
    "pruning": lambda network: prune.l1_unstructured(network.get_submodule(THREE), "weight", 0.5),
    "eps": changed(NORM, eps=0.5),
    "momentum": changed(NORM, momentum=0.5),
    "momentum 0": changed(NORM, momentum=0.0),
    "cumulative average": changed(NORM, momentum=None),
    "no running statistics": replaced(NORM, lambda _: nn.BatchNorm2d(12, track_running_stats=False)),
    "running statistics that stay": changed(NORM, track_running_stats=False),
    "no affine": replaced(NORM, lambda _: nn.BatchNorm2d(12, affine=False)),
    "no bias of a norm": changed(NORM, bias=None),
    "no weight of a norm": changed(NORM, weight=None),
    "no count of a norm": changed(NORM, num_batches_tracked=None),
    "strided weight of a norm": reweighted(NORM, lambda weight: weight.repeat_interleave(2)[::2]),
    "another buffer of a norm": lambda network: network.get_submodule(NORM).register_buffer(
        "mine", torch.zeros(3, dtype=torch.float64)
    ),
    "group norm": replaced(NORM, lambda _: nn.GroupNorm(4, 12)),
    "instance norm": replaced("features.norm5", lambda _: nn.InstanceNorm2d(20, affine=True)),
    "no norm": replaced(NORM, lambda _: nn.Identity()),
    "ReLU for a norm": replaced(NORM, lambda _: nn.ReLU()),
    "shared norm": shared(f"{LAYER}.norm2", f"{OTHER}.norm2"),
    "shared convolution": shared(THREE, f"{OTHER}.conv2"),
    "another layer": lambda network: setattr(network.get_submodule(LAYER), "__class__", OtherLayer),
    "plain layer": replaced(LAYER, lambda _: PlainLayer(12, 4, 0.0)),
    "one layer less": lambda network: network.features.denseblock1.pop("denselayer2"),
    "no layer in the last block": lambda network: network.features.denseblock3.clear(),
    "module at the end": lambda network: network.features.append(nn.Sigmoid()),
    "ReLU after the stem": replaced("features.conv0", lambda old: nn.Sequential(old, nn.ReLU())),
    "more after a transition": replaced(MOVE, lambda old: nn.Sequential(old, nn.ReLU())),
    "another module for dropout": replaced(f"{LAYER}.dropout", lambda _: nn.Tanh()),
    "ReLU for dropout": replaced(f"{LAYER}.dropout", lambda _: nn.ReLU()),
    "all dropped": changed(f"{LAYER}.dropout", p=1.0),
    **{f"forward of {name}": rewritten(name) for name in (THREE, NORM, LAYER, MOVE, "features")},
    **{
        f"{register} of {name}": hooked(name, register)
        for register in HOOKS
        for name in (THREE, NORM, MOVE, "features")
    },
}
EDITS_OF_IMAGENET_STEM = {
    "another activation": replaced("features.relu0", lambda _: nn.SiLU()),
    "average pool": replaced("features.pool0", lambda _: nn.AvgPool2d(3, 2, 1)),
    "another max pool": changed("features.pool0", padding=0),
    "no max pool": replaced("features.pool0", lambda _: nn.Identity()),
    "small stem": replaced("features.conv0", conv(3, 8, 3, padding=1)),
    "bias in the stem": replaced(  # frozen: its gradient is zero but for rounding
        "features.conv0", lambda _: nn.Conv2d(3, 8, 7, stride=2, padding=3).requires_grad_(False)
    ),
    "padding of the stem": changed("features.conv0", padding=(2, 2)),
    "dilation in the stem": changed("features.conv0", dilation=(2, 2)),
    "stride of the whole stem": changed("features.conv0", stride=(1, 1)),
    "stem for other images": replaced("features.conv0", conv(4, 8, 7, stride=2, padding=3)),
    "hook on the stem": hooked("features.conv0", "register_forward_hook"),
    "weight of the stem in another order": reweighted("features.conv0", lambda w: w.mT.contiguous().mT),
}


OF_OUR_MODULES = {
    "another layer",
    "plain layer",
    "another module for dropout",
    "ReLU for dropout",
    "all dropped",
}
OTHERS = {  # with the same widths
    "torchvision": lambda: torchvision.models.DenseNet(4, (2, 1, 1), 8, num_classes=10),
    "timm": lambda: timm_model("densenet121", 10, growth_rate=4, block_config=(2, 1, 1)),
}


@pytest.mark.parametrize("name", [*EDITS, *EDITS_OF_IMAGENET_STEM])
def test_an_edited_network_computes_what_its_modules_compute(name):
    options = {"growth_rate": 4, "depth": 16, "block_config": [2, 1, 1]}
    if name in EDITS_OF_IMAGENET_STEM:
        options["stem"] = "imagenet"
    check_edited(*pair(options), name, (12, 9) if name in EDITS else (48, 36))


@pytest.mark.parametrize("library", OTHERS)
@pytest.mark.parametrize("name", [name for name in EDITS if name not in OF_OUR_MODULES])
def test_an_edited_network_of_another_library_does_too(name, library):
    if library == "timm":
        pytest.importorskip("timm")
    torch.manual_seed(0)
    check_edited(*with_fused_copy(OTHERS[library]().double()), name, (48, 36))


def check_edited(reference, fused, name, size):
    """Edit a network and its fused copy; both compute the same or raise errors of the same class.

    Also in evaluation before and after, of which the fused copy keeps something.
    """
    images = torch.randn(3, 3, *size, dtype=torch.float64)
    assert_close(*(logits_of(network, images, None) for network in (fused, reference)), 1e-11)
    for network in (reference, fused):
        torch.manual_seed(1)
        (EDITS | EDITS_OF_IMAGENET_STEM)[name](network)
    found, expected = (what_is_left(network, images, logits_of) for network in (fused, reference))
    assert_close(found, expected, 1e-11)
    for is_training in (True, False):
        found, expected = (
            what_is_left(network.train(is_training), images) for network in (fused, reference)
        )
        assert_close(found, expected, 1e-11)
    found, expected = (what_is_left(network, images, logits_of) for network in (fused, reference))
    assert_close(found, expected, 1e-11)


def logits_of(network, images, _):
    """Those of an evaluation without gradients."""
    with torch.no_grad():
        return {"logits": network.eval()(images)}


def what_is_left(network, images, compute=step):
    """The results of a training step, or the class of the error that it raises."""
    try:
        left = compute(network, images, torch.arange(len(images)))
    except Exception as error:
        return {type(error): torch.zeros(1)}
    return {name: tensor for name, tensor in left.items() if tensor is not None}


def test_gradients_are_those_of_the_numbers_that_the_forward_pass_used():
    reference, fused = pair({"growth_rate": 4, "depth": 10})
    images = torch.randn(3, 3, 8, 8, dtype=torch.float64)
    others = {
        name: (3 * parameter.detach()).requires_grad_()
        for name, parameter in reference.named_parameters()
    }
    found, expected = (
        torch.autograd.grad(
            torch.func.functional_call(network, others, (images,)).square().sum(), [*others.values()]
        )
        for network in (fused, reference)
    )
    assert_close(dict(zip(others, found, strict=True)), dict(zip(others, expected, strict=True)), 1e-11)


@pytest.mark.parametrize("name", ["denseblock1.denselayer1.conv2.weight", "norm5.bias"])
def test_weights_that_change_before_the_backward_pass_are_an_error(name):
    for network in pair({"growth_rate": 4, "depth": 10}):
        loss = network(torch.randn(3, 3, 8, 8, dtype=torch.float64)).square().sum()
        with torch.no_grad():
            network.features.get_parameter(name).mul_(2)
        if name.startswith("norm5") and not is_fused(network):
            continue  # PyTorch needs no bias of a batch norm
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()
