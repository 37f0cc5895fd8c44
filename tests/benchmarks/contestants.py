"""The contestants: the same network with the same weights, in different implementations and modes.

gpleiss's efficient implementation cannot be installed as a package; torchvision's
`memory_efficient=True` is the same algorithm: checkpointing of concatenation, batch norm, ReLU and 1x1
convolution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from networks import Network
from torch import nn
from torchvision import models

from densenet_cli.kernels import fuse
from densenet_cli.models.timm_models import timm_model
from densenet_cli.training import devices


@dataclass(frozen=True)
class Contestant:
    """One way of computing a network.

    Args:
        name: as typed after --contestants.
        make: network -> module, with the state dict of our own implementation.
        channels_last: memory format of weights and images.
        precision: Lightning's name; "auto": bfloat16 where it is faster, else float32.
        compiled: the mode of torch.compile, such as "default"; "" for none.
        replayed: the whole step recorded as a CUDA graph, as densenet-run does on a GPU.
    """

    name: str
    make: Callable[[Network], nn.Module]
    channels_last: bool = True
    precision: str = "auto"
    compiled: str = ""
    replayed: bool = False

    def compile(self, mode: str = "default") -> Contestant:
        """The same through torch.compile, in its default mode or another one."""
        ending = "compiled" if mode == "default" else mode
        return replace(self, name=f"{self.name}-{ending}", compiled=mode)

    def replay(self) -> Contestant:
        """The same with CUDA graphs."""
        return replace(self, name=f"{self.name}-replayed", replayed=True)

    def is_bfloat16(self, device: str = "cpu") -> bool:
        """Whether it computes with bfloat16 (by autocast) on this machine."""
        return devices.precision(self.precision, device) == "bf16-mixed"


def ours(network: Network) -> nn.Module:
    """The package's own network, computed by its modules."""
    return network.make()


def fused(network: Network) -> nn.Module:
    """The package's own network, computed by the kernels."""
    return fuse(network.make())


def torchvision(network: Network, memory_efficient: bool = False) -> nn.Module:
    """torchvision's DenseNet-BC."""
    options = network.make.keywords
    module = models.DenseNet(
        growth_rate=options["growth_rate"],
        block_config=network.make().block_config,
        num_init_features=2 * options["growth_rate"],
        num_classes=options["num_classes"],
        memory_efficient=memory_efficient,
    )
    return _with_stem(module, network)


def timm(network: Network) -> nn.Module:
    """timm's DenseNet-BC."""
    options = network.make.keywords
    module = timm_model(
        "densenet121",
        options["num_classes"],
        growth_rate=options["growth_rate"],
        block_config=network.make().block_config,
    )
    return _with_stem(module, network)


def _with_stem(module: nn.Module, network: Network) -> nn.Module:
    """The module, with the 3x3 stem for CIFAR if the network has it; torchvision and timm do not."""
    features = module.features
    if network.make.keywords.get("stem") != "imagenet":
        width = features.conv0.out_channels
        features.conv0 = nn.Conv2d(3, width, kernel_size=3, padding=1, bias=False)
        for name in {"norm0", "relu0", "pool0"} & dict(features.named_children()).keys():
            delattr(features, name)
    return module


def build(contestant: Contestant, network: Network) -> nn.Module:
    """The contestant's module, with the weights that all contestants get.

    Raises:
        RuntimeError: it does not have exactly the parameters and buffers of ours.
    """
    torch.manual_seed(0)
    weights = network.make().state_dict()
    module = contestant.make(network)
    module.load_state_dict(weights)
    return module


EFFICIENT = partial(torchvision, memory_efficient=True)
CONTESTANTS = {
    contestant.name: contestant
    for contestant in (
        Contestant("fused", fused),
        Contestant("fused-float32", fused, precision="32-true"),
        Contestant("reference", ours),
        Contestant("reference-channels-last", ours, precision="32-true"),
        Contestant("reference-plain", ours, channels_last=False, precision="32-true"),
        Contestant("torchvision", torchvision),
        Contestant("torchvision-channels-last", torchvision, precision="32-true"),
        Contestant("torchvision-plain", torchvision, channels_last=False, precision="32-true"),
        Contestant("torchvision-efficient", EFFICIENT),
        Contestant("torchvision-efficient-plain", EFFICIENT, channels_last=False, precision="32-true"),
        Contestant("timm", timm),
    )
}
