"""Our networks beside independent code: the same numbers in all that a training run consists of.

A row of PEERS names a network of torchvision, timm or pytorchcv, and options of densenet-run for ours.
Parameters and statistics of their batch norms are drawn at random, so that no channel is like another,
and ours gets all their weights. Then both are evaluated, trained for two steps and evaluated again, in
float64. So are the kernels of densenet_cli.kernels where they can compute the network. What ours take
from a library is compared with another library.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from densenet_cli.config.build import build
from densenet_cli.kernels import fuse, fusion

timm = pytest.importorskip("timm")
pytest.importorskip("pytorchcv")
from pytorchcv.models import (  # noqa: E402
    densenet,
    densenet_cifar,
    inceptionresnetv1,
    inceptionresnetv2,
    inceptionv3,
    inceptionv4,
    mobilenet,
    preresnet_cifar,
    resnet,
    resnet_cifar,
    resnext,
    resnext_cifar,
    vgg,
    wrn_cifar,
    xception,
)

CLASSES = 10
# A difference may be so many times the measured one: other processors add in another order.
ALLOWANCE = 20


@dataclass(frozen=True)
class Peer:
    """A network of others and ours.

    Attributes:
        theirs: builds their network, for 10 classes.
        ours: options of densenet-run that give ours.
        measured: the largest difference of our modules to theirs, as `differences` counts it.
        fused: that of our kernels; None if they cannot compute this network.
        match: how weights find their place: "name", the names are the same, or "order".
        size: height and width of the images.
        images: in a batch.
        is_slow: whether the test takes more than a second or two.
    """

    theirs: Callable[[], nn.Module]
    ours: str
    measured: float
    fused: float | None = None
    match: str = "order"
    size: int = 32
    images: int = 4
    is_slow: bool = True


def from_pytorchcv(make: Callable[..., nn.Module], **options: object) -> Callable[[], nn.Module]:
    return functools.partial(make, num_classes=CLASSES, **options)


def from_torchvision(name: str) -> Callable[[], nn.Module]:
    return functools.partial(torchvision.models.get_model, name, weights=None, num_classes=CLASSES)


def from_timm(name: str) -> Callable[[], nn.Module]:
    return functools.partial(timm.create_model, name, num_classes=CLASSES)


def for_small_images(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """pytorchcv's networks for ImageNet end with an average over 7x7 to 10x10: over all, here."""

    def made() -> nn.Module:
        network = make(num_classes=CLASSES)
        *_, last = (name for name, part in network.named_modules() if isinstance(part, nn.AvgPool2d))
        network.set_submodule(last, nn.AdaptiveAvgPool2d(1))
        return network

    return made


def mobilenet_with_relu6() -> nn.Module:
    """pytorchcv's with ReLUs cut off at 6, as timm's are."""
    network = for_small_images(mobilenet.mobilenet_w1)()
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU):
                setattr(module, name, nn.ReLU6())
    return network


def inception_resnet_v1_of_the_paper() -> nn.Module:
    """pytorchcv's is facenet's: without its sixth module C, and with one linear layer, not two."""
    network = for_small_images(inceptionresnetv1.inceptionresnetv1)()
    del network.features.stage3.unit7
    network.output = nn.Linear(1792, CLASSES)
    return network


def preresnet164_with_first_strides() -> nn.Module:
    """pytorchcv's, with the strides of 3x3 convolutions moved to the 1x1 before, as in He's code."""
    network = preresnet_cifar.preresnet164bn_cifar10()
    for stage in (network.features.stage2, network.features.stage3):
        first, second, _ = stage.unit1.body.children()
        first.conv.stride, second.conv.stride = second.conv.stride, first.conv.stride
    return network


def bn_vgg16_for_cifar() -> nn.Module:
    """pytorchcv's with biases, and one linear layer, as in kuangliu/pytorch-cifar, models/vgg.py."""
    network = vgg.bn_vgg16b()
    network.output = nn.Linear(512, CLASSES)
    return network


SMALL_DENSENET_BC = Peer(
    from_pytorchcv(densenet_cifar.get_densenet_cifar, blocks=10, growth_rate=4, bottleneck=True),
    "densenet_bc model.depth=10 model.growth_rate=4",
    *(6e-16, 2e-15),
    is_slow=False,
)
PEERS = {
    "pytorchcv DenseNet-BC (10, 4)": SMALL_DENSENET_BC,
    "pytorchcv DenseNet-BC (40, 12)": Peer(
        from_pytorchcv(densenet_cifar.densenet40_k12_bc_cifar10), "densenet_bc_40", 3e-15, 8e-15
    ),
    "pytorchcv DenseNet-C (40, 12)": Peer(
        from_pytorchcv(densenet_cifar.densenet40_k12_cifar10),
        "densenet_40 model.compression=0.5 model.init_channels=24",
        *(2e-15, 4e-15),
    ),
    "torchvision DenseNet, 7 layers with bottlenecks of 2k": Peer(
        lambda: torchvision.models.DenseNet(12, (2, 3, 2), 24, bn_size=2, num_classes=CLASSES),
        "densenet_121 model.growth_rate=12 model.block_config=[2,3,2] model.bn_size=2",
        *(0.0, 7e-15),
        match="name",
        size=48,
        is_slow=False,
    ),
    **{
        f"torchvision DenseNet-{depth}": Peer(
            from_torchvision(f"densenet{depth}"),
            f"densenet_{depth}",
            *(0.0, fused),
            match="name",
            size=64,
        )
        for depth, fused in {121: 3e-13, 161: 5e-13, 169: 8e-13, 201: 1e-12}.items()
    },
    "timm DenseNet-121": Peer(
        from_timm("densenet121"), "densenet_121", 0.0, 3e-13, match="name", size=64
    ),
    "pytorchcv DenseNet-121": Peer(
        for_small_images(densenet.densenet121), "densenet_121", 0.0, 3e-13, size=64
    ),
    "pytorchcv ResNet-8": Peer(
        from_pytorchcv(resnet_cifar.get_resnet_cifar, blocks=8, bottleneck=False),
        "resnet model.depth=8 model.shortcut=B",
        2e-15,
        is_slow=False,
    ),
    "pytorchcv ResNet-20": Peer(
        from_pytorchcv(resnet_cifar.resnet20_cifar10), "resnet_20 model.shortcut=B", 2e-15
    ),
    "pytorchcv pre-activation ResNet-20": Peer(
        from_pytorchcv(preresnet_cifar.preresnet20_cifar10),
        "preact_resnet model.depth=20 model.block=basic model.first_activation=in_branch",
        2e-15,
    ),
    "pytorchcv pre-activation ResNet-164": Peer(
        from_pytorchcv(preresnet_cifar.preresnet164bn_cifar10),
        "preact_resnet_164 model.stride=3x3",
        3e-13,
    ),
    "pytorchcv pre-activation ResNet-164, strides moved": Peer(
        preresnet164_with_first_strides, "preact_resnet_164", 3e-13
    ),
    "pytorchcv WRN-16-4": Peer(
        from_pytorchcv(wrn_cifar.get_wrn_cifar, blocks=16, width_factor=4), "wide_resnet_16_4", 2e-15
    ),
    "pytorchcv ResNeXt-29, 8x64d": Peer(
        from_pytorchcv(resnext_cifar.get_resnext_cifar, blocks=29, cardinality=8, bottleneck_width=64),
        "history/resnext_29_cifar",
        2e-14,
        images=2,
    ),
    "pytorchcv VGG-16 with batch norm": Peer(bn_vgg16_for_cifar, "history/vgg_16_cifar", 0.0),
    "pytorchcv ResNet-50": Peer(for_small_images(resnet.resnet50b), "resnet_50", 0.0, size=64),
    "timm ResNet-50": Peer(from_timm("resnet50"), "resnet_50", 0.0, match="name", size=64),
    "pytorchcv ResNeXt-50, 32x4d": Peer(
        for_small_images(resnext.resnext50_32x4d), "history/resnext_50", 0.0, size=64
    ),
    "pytorchcv Inception v3": Peer(
        for_small_images(inceptionv3.inceptionv3), "history/inception_v3", 0.0, size=107
    ),
    "pytorchcv Inception v4": Peer(
        for_small_images(inceptionv4.inceptionv4), "history/inception_v4", 0.0, size=107, images=2
    ),
    "pytorchcv Inception-ResNet v2": Peer(
        for_small_images(inceptionresnetv2.inceptionresnetv2),
        "history/inception_resnet_v2",
        0.0,
        size=107,
        images=2,
    ),
    "pytorchcv Inception-ResNet v1": Peer(
        inception_resnet_v1_of_the_paper,
        "history/inception_resnet_v1",
        0.0,
        size=107,
        images=2,
    ),
    "pytorchcv Xception": Peer(
        for_small_images(xception.xception), "history/xception", 0.0, size=96, images=2
    ),
    "pytorchcv MobileNet v1": Peer(mobilenet_with_relu6, "history/mobilenet_v1", 0.0, size=96),
    "timm MobileNet v2": Peer(from_timm("mobilenetv2_100"), "history/mobilenet_v2", 0.0, size=64),
}


def randomised(network: nn.Module) -> nn.Module:
    """In float64, without dropout, with random parameters and statistics of batch norms."""
    for module in network.double().modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return without_dropout(network)


def without_dropout(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return network


def ours_with_weights_of(theirs: nn.Module, peer: Peer, config: Callable[..., dict]) -> nn.Module:
    """Our network with copies of their weights and statistics."""
    options = config(*f"model={peer.ours} recipe.dropout=0".split())["model"]
    ours = without_dropout(build("model", options, num_classes=CLASSES).double())
    weights = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}
    if peer.match == "order":
        weights = dict(zip(ours.state_dict(), weights.values(), strict=True))
    ours.load_state_dict(weights, strict=True)
    return ours


def trained(network: nn.Module, images: Tensor) -> dict[str, list[Tensor]]:
    """What an evaluation, two training steps and another evaluation give, of images (3, N, 3, H, W)."""
    labels = torch.arange(images.shape[1]) % CLASSES
    optimizer = torch.optim.SGD(
        network.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4
    )
    found = {"evaluation": [evaluated(network, images[2])], "training": [], "gradients": []}
    network.train()
    for batch in images[:2]:
        logits = network(batch)
        optimizer.zero_grad()
        F.cross_entropy(logits, labels).backward()
        found["training"].append(logits.detach())
        found["gradients"] += [weight.grad.clone() for weight in network.parameters()]
        optimizer.step()
    found["weights"] = [weight.detach() for weight in network.parameters()]
    found["statistics"] = list(network.buffers())
    found["evaluation after"] = [evaluated(network, images[2])]
    return found


def evaluated(network: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return network.eval()(images)


def differences(found: dict[str, list[Tensor]], expected: dict[str, list[Tensor]]) -> dict[str, float]:
    """For each kind of numbers, the largest absolute difference over the largest absolute number."""
    return {kind: _difference(found[kind], tensors) for kind, tensors in expected.items()}


def _difference(found: list[Tensor], expected: list[Tensor]) -> float:
    pairs = zip(found, expected, strict=True)
    largest = max(tensor.abs().max().item() for tensor in expected)
    return max((one - other).abs().max().item() for one, other in pairs) / largest


def beyond(tolerance: float, found: dict[str, float]) -> dict[str, str]:
    """The kinds of numbers that differ by more, and by how much."""
    return {kind: f"{size:.1e}" for kind, size in found.items() if not size <= tolerance}


def tolerance(measured: float) -> float:
    return ALLOWANCE * max(measured, torch.finfo(torch.float64).eps)


def computed_by_kernels(network: nn.Module, images: Tensor) -> bool:
    with torch.no_grad():
        return fusion._logits(network.eval(), images) is not None


def draw_images(peer: Peer) -> Tensor:
    return torch.randn(3, peer.images, 3, peer.size, peer.size, dtype=torch.float64)


@pytest.mark.parametrize(
    "peer",
    [
        pytest.param(peer, id=name, marks=[pytest.mark.slow] if peer.is_slow else [])
        for name, peer in PEERS.items()
    ],
)
def test_networks_train_as_those_of_independent_code(peer, config):
    theirs = randomised(peer.theirs())
    ours = ours_with_weights_of(theirs, peer, config)
    kernels = None if peer.fused is None else fuse(ours_with_weights_of(theirs, peer, config))
    images = draw_images(peer)
    expected = trained(theirs, images)
    assert all(tensors[0].std() > 0 for tensors in expected.values())
    assert not beyond(tolerance(peer.measured), differences(trained(ours, images), expected))
    if kernels is not None:
        assert computed_by_kernels(kernels, images[0])
        assert not beyond(tolerance(peer.fused), differences(trained(kernels, images), expected))


def _of_one_layer(attribute, factor):
    def change(network):
        norm = network.features.denseblock2.denselayer1.norm2
        setattr(norm, attribute, factor * getattr(norm, attribute))

    return change


def _of_one_gradient(network):
    weight = network.features.denseblock2.denselayer1.conv1.weight
    weight.register_hook(lambda gradient: gradient * (1 + 1e-9))


EVERYTHING = {"evaluation", "training", "gradients", "weights", "statistics", "evaluation after"}


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        (_of_one_layer("eps", 1 + 1e-6), EVERYTHING),
        (_of_one_layer("momentum", 1 + 1e-9), {"statistics", "evaluation after"}),
        (_of_one_gradient, EVERYTHING - {"evaluation"}),
    ],
    ids=["epsilon", "momentum of statistics", "gradient"],
)
def test_a_small_change_of_one_layer_is_seen_where_it_has_an_effect(change, seen, config):
    peer = SMALL_DENSENET_BC
    theirs = randomised(peer.theirs())
    ours = ours_with_weights_of(theirs, peer, config)
    change(ours)
    images = draw_images(peer)
    found = differences(trained(ours, images), trained(theirs, images))
    assert found.keys() == EVERYTHING
    assert beyond(tolerance(peer.measured), found).keys() == seen
