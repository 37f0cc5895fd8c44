"""The name of a network in the literature, derived from its configuration."""

from __future__ import annotations

import re
from typing import Any

from densenet_cli.plain_text import as_title

# Growth rates of the ImageNet DenseNets that are named by their depth alone (arXiv:1608.06993, table 1;
# 161: version 3 of that paper; 232: arXiv:1707.06990).
IMAGENET_GROWTH_RATES = {121: 32, 161: 48, 169: 32, 201: 32, 232: 48, 264: 32}

# The options that a name includes; all others must be shown beside it.
NAMED = (
    *("_target_", "depth", "growth_rate", "block_config", "bottleneck", "widen_factor", "name"),
    *("cardinality", "base_width", "groups", "width_per_group"),
)

PLAIN = "Plain network"  # a ResNet without shortcuts (arXiv:1512.03385, sec. 4.2)

# Historical networks whose name is not that of their class or function.
OTHERS = {
    "LeNet5": "LeNet-5",
    "alexnet_cifar": "AlexNet",
    "NetworkInNetwork": "Network in Network",
    "vgg_cifar": "VGG-{depth} with batch norm",
    "BNInception": "BN-Inception",
    "InceptionResNetV1": "Inception-ResNet v1",
    "SmallInception": "BN-Inception (small)",
    "HighwayNetwork": "Highway-19",
    "resnext_cifar": "ResNeXt-{depth} ({cardinality}x{base_width}d)",
    "mobilenet_v1_cifar": "MobileNet v1",
    "mobilenet_v2_cifar": "MobileNet v2",
}


def family(model: dict[str, Any]) -> str:
    """The kind of network: "DenseNet-BC", "ResNet", "Wide ResNet", ...

    Args:
        model: the section `model` of a configuration.

    Returns:
        For networks of torchvision and timm "ResNet" if it is one, else their name there; for classes
        of other packages the name of the class.
    """
    return as_title(_family(model))


def network_name(model: dict[str, Any]) -> str:
    """The network: "DenseNet-BC (L=100, k=12)", "DenseNet-121", "ResNet-110", "WRN-28-10", ..."""
    return as_title(_network_name(model))


def _family(model: dict[str, Any]) -> str:
    kind = _kind(model)
    if kind == "DenseNet":
        letters = ("B" if model.get("bottleneck") else "") + ("C" if _compresses(model) else "")
        return f"DenseNet-{letters}" if letters else "DenseNet"
    if kind == "ResNet":
        return _resnet_family(model)
    if kind in ("torchvision_model", "timm_model"):
        name = str(model.get("name"))
        return name if _depth_there(model) is None else "ResNeXt" if _has_groups(model) else "ResNet"
    return {"PreActResNet": "Pre-activation ResNet", "WideResNet": "Wide ResNet"}.get(kind, kind)


def _network_name(model: dict[str, Any]) -> str:
    kind, depth = _kind(model), model.get("depth")
    if kind == "DenseNet":
        return _densenet_name(model)
    if kind == "ResNet":
        own = _resnet_family(model)
        return f"Plain-{depth}" if own == PLAIN else own.replace("ResNet", f"ResNet-{depth}")
    if kind == "PreActResNet":
        return f"Pre-activation ResNet-{depth}"
    if kind == "WideResNet":
        return f"WRN-{depth}-{model.get('widen_factor')}"
    if kind in ("torchvision_model", "timm_model") and (depth := _depth_there(model)) is not None:
        return _grouped_name(model, depth)
    if kind in ("torchvision_model", "timm_model"):
        return str(model.get("name"))
    if kind in OTHERS:
        return OTHERS[kind].format_map({**dict.fromkeys(NAMED), **model})
    return kind


def _depth_there(model: dict[str, Any]) -> str | None:
    """The depth of a ResNet of torchvision or timm; None if it is another network."""
    found = re.fullmatch(r"resnet(\d+)", str(model.get("name")))
    return found and found[1]


def _has_groups(model: dict[str, Any]) -> bool:
    return model.get("groups", 1) != 1


def _grouped_name(model: dict[str, Any], depth: str) -> str:
    """ResNet-50, or with other groups or widths than a ResNet's as ResNeXt-101 (32x48d)."""
    groups, width = model.get("groups", 1), model.get("width_per_group", 64)
    if (groups, width) == (1, 64):
        return f"ResNet-{depth}"
    return f"{'ResNeXt' if _has_groups(model) else 'ResNet'}-{depth} ({groups}x{width}d)"


def _resnet_family(model: dict[str, Any]) -> str:
    if model.get("shortcut") == "none":
        return PLAIN
    return "ResNet" if model.get("survival_probability") is None else "ResNet with stochastic depth"


def _densenet_name(model: dict[str, Any]) -> str:
    blocks, growth_rate = model.get("block_config"), model.get("growth_rate")
    depth = model.get("depth")
    if isinstance(blocks, list):
        size = "-".join(map(str, blocks))
        return f"{family(model)} ({size}, k={growth_rate})"
    if (
        model.get("stem") == "imagenet"
        and family(model) == "DenseNet-BC"
        and isinstance(depth, int)
        and IMAGENET_GROWTH_RATES.get(depth) == growth_rate
    ):
        return f"DenseNet-{depth}"
    return f"{family(model)} (L={depth}, k={growth_rate})"


def _compresses(model: dict[str, Any]) -> bool:
    compression = model.get("compression")
    return isinstance(compression, (int, float)) and compression < 1


def _kind(model: dict[str, Any]) -> str:
    return str(model.get("_target_")).rpartition(".")[2]
