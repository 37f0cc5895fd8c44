"""The networks that are measured, with their batches and the names of the contestants for each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import nn

from densenet_cli.models.densenet import DenseNet
from densenet_cli.models.resnet import ResNet
from densenet_cli.models.torchvision_models import torchvision_model

# Names of contestants. torchvision and timm have no DenseNet without bottleneck layers.
FUSED = ("fused", "fused-float32")
TORCHVISION = ("torchvision", "torchvision-channels-last", "torchvision-plain")
EFFICIENT = ("torchvision-efficient", "torchvision-efficient-plain")
BOTTLENECK = (*FUSED, "reference", *TORCHVISION, *EFFICIENT, "timm")
PLAIN = (*FUSED, "reference", "reference-channels-last", "reference-plain")
RESNET = ("reference", "reference-plain")
DEPTH = ("fused", "reference", "torchvision-efficient")
RUNTIMES = ("onnxruntime", "openvino", "openvino-float32")  # evaluate only, see runtimes.py


@dataclass(frozen=True)
class Network:
    """A network of ours and the random images that it sees.

    Args:
        name: as typed after --networks.
        title: as printed.
        make: makes the network when called without arguments; `make.keywords` are its options.
        contestants: the names of those that have this network.
        image_size: height and width in pixels.
        batch: images of a training step.
        evaluation_batch: images of an evaluation; 0: evaluation is not measured.
    """

    name: str
    title: str
    make: partial[nn.Module]
    contestants: tuple[str, ...]
    image_size: int
    batch: int
    evaluation_batch: int

    @property
    def is_densenet(self) -> bool:
        """Whether the kernels can compute it, and there is a roofline for it."""
        return self.make.func is DenseNet

    def smaller(self) -> Network:
        """The same network with an eighth of the images, for a quick try."""
        return replace(
            self, batch=max(2, self.batch // 8), evaluation_batch=-(-self.evaluation_batch // 8)
        )


def cifar_densenet(
    name: str, batch: int, contestants: tuple[str, ...] = BOTTLENECK, **options: Any
) -> Network:
    """A DenseNet for 32 x 32 pixels, DenseNet-BC unless the options say otherwise."""
    kind = "DenseNet-BC" if options.get("bottleneck", True) else "DenseNet"
    title = f"{kind}-{options['depth']}-{options['growth_rate']}"
    make = partial(DenseNet, num_classes=10, **options)
    return Network(name, title, make, contestants, image_size=32, batch=batch, evaluation_batch=batch)


def of_depth(depth: int) -> Network:
    """DenseNet-BC with k = 12, to show how time and memory grow with depth."""
    network = cifar_densenet(f"depth-{depth}", 16, DEPTH, growth_rate=12, depth=depth)
    return replace(network, evaluation_batch=0)


DENSENET_121 = partial(DenseNet, num_classes=1000, growth_rate=32, depth=121, stem="imagenet")
RESNET_20 = partial(ResNet, num_classes=10, depth=20)
RESNET_50 = partial(torchvision_model, name="resnet50", num_classes=1000)
NETWORKS = {
    network.name: network
    for network in (
        cifar_densenet("densenet-bc-100-12", 64, growth_rate=12, depth=100),
        cifar_densenet(
            "densenet-40-12", 64, PLAIN, growth_rate=12, depth=40, bottleneck=False, compression=1.0
        ),
        cifar_densenet("densenet-bc-190-40", 8, growth_rate=40, depth=190),
        Network("densenet-121", "DenseNet-121", DENSENET_121, BOTTLENECK, 224, 16, 16),
        Network("resnet-20", "ResNet-20", RESNET_20, RESNET, 32, 64, 64),
        Network("resnet-50", "ResNet-50", RESNET_50, RESNET, 224, 16, 16),
        *map(of_depth, (40, 100, 160, 250)),
    )
}
TINY = cifar_densenet("tiny", 2, growth_rate=4, depth=10)
