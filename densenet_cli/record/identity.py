"""Which runs are the same run, and which are the same setting with another seed."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from typing import Any

# Paths, what is printed and how often is saved: none of it changes a result. Only data.root does if it
# names a folder of the user's own images; see `without_effect`.
WITHOUT_EFFECT = (
    "resume",
    "next_steps",
    "checkpoint_minutes",
    "logger",
    "data.root",
    "data.num_workers",
    "data.download",
    "data.verify",
    "data.check",
    "data.skip_broken",
    "data.max_pixels",
    "trainer.enable_progress_bar",
    "trainer.cuda_graphs",
    "trainer.implementation",
)
# Options that not all records have: at these values a run is what it is without them.
WITHOUT_EFFECT_AT = {
    "model.implementation": "auto",  # in the records of outputs/study; now trainer.implementation
    "pretrained.weights": None,
    "pretrained.frozen": False,
    "pretrained.layer_decay": 1,
    "budget": None,
    "data.channels": 3,
    "data.drop_last": False,
    "data.border": "zeros",
    "data.hold_out": "proportional",
    "data.antialias": True,
    "data.test_crops": 1,
    "recipe.steps": None,
    "recipe.warm_up": None,
    "recipe.reset_momentum_at_drops": False,
    "recipe.loss": None,
    "recipe.class_weights": None,
    "data.randaugment": None,
    "data.train_size": None,
    "recipe.randaugment": None,
    "recipe.ema_share": None,
    "recipe.mixup": 0,
    "recipe.cutmix": 0,
}
# The same for arguments of our networks: the values that these had before there was an option.
WITHOUT_EFFECT_IN_NETWORKS: dict[str, dict[str, Any]] = {
    "densenet_cli.models.densenet.DenseNet": {"bn_size": 4, "init": "fan_out"},
    "densenet_cli.models.resnet.ResNet": {"bias": False, "init": "fan_out"},
    "densenet_cli.models.preact_resnet.PreActResNet": {
        "stride": "3x3",
        "first_activation": "in_branch",
        "init": "fan_out",
    },
    "densenet_cli.models.wide_resnet.WideResNet": {"init": "fan_out"},
    "densenet_cli.models.history.lenet.LeNet5": {"pooling": "subsampling", "connections": "table_1"},
}
# Arguments of networks that have no effect, whatever their value, beside another one of some value.
WITHOUT_EFFECT_BESIDE: dict[str, dict[str, tuple[str, Any]]] = {
    "densenet_cli.models.densenet.DenseNet": {"bn_size": ("bottleneck", False)},
    "densenet_cli.models.preact_resnet.PreActResNet": {
        "stride": ("block", "basic"),
        "first_activation": ("block", "bottleneck"),
    },
}
SEEDS = ("seed", "data.seed")
# Options of Lightning's Trainer for which 1 means one batch or step, and 1.0 the whole epoch.
NUMBER_OR_SHARE = (
    *("limit_train_batches", "limit_val_batches", "limit_test_batches", "limit_predict_batches"),
    *("overfit_batches", "val_check_interval"),
)


def identity(config: dict[str, Any]) -> str:
    """A name for everything that decides the result of a run; equal for equal resolved configurations.

    Args:
        config: the resolved configuration of a run, from memory or from run.json.

    Returns:
        Twelve hexadecimal digits.
    """
    return _digest(_without(config, without_effect(config)))


def setting(config: dict[str, Any]) -> str:
    """Like `identity`, but also equal for runs that differ only in the seed."""
    return _digest(_without(config, (*without_effect(config), *SEEDS)))


def flat(config: dict[str, Any], section: str = "") -> dict[str, Any]:
    """The options by the keys that one types: {"model.growth_rate": 12, "epochs": 300, ...}."""
    return dict(_flat(config, section))


def _flat(config: dict[str, Any], section: str) -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        name = f"{section}.{key}" if section else str(key)
        if isinstance(value, dict) and value:
            yield from _flat(value, name)
        else:
            yield name, value


def without_effect(config: dict[str, Any]) -> tuple[str, ...]:
    """The options of a configuration that cannot change a result."""
    data, options = config.get("data"), flat(config)
    is_published = isinstance(data, dict) and "download" in data
    names = [name for name in WITHOUT_EFFECT if is_published or name != "data.root"]
    # A section, as recipe.warm_up can be, is none of the options: it has an effect.
    names += [name for name, value in WITHOUT_EFFECT_AT.items() if options.get(name, ...) == value]
    names += [*_idle_packing(options), *_idle_loss(options)]
    model = config.get("model")
    return (*names, *(_idle_arguments(model) if isinstance(model, dict) else ()))


def _idle_packing(options: dict[str, Any]) -> Iterator[str]:
    """The options of a pack that change nothing: its place, and all if it holds the files as they are.

    Raw pixels are another run even of whole images: large JPEG files are read at a fraction of their
    size, with other roundings.
    """
    yield "data.pack"
    keeps_files = options.get("data.pack_size") is None and options.get("data.pack_quality") != "raw"
    if not options.get("data.pack") or keeps_files:
        yield from ("data.pack_size", "data.pack_quality")


def _idle_loss(options: dict[str, Any]) -> Iterator[str]:
    """The loss, if it is the one that null stands for; only a table's options say of which labels."""
    fitting = "binary_cross_entropy" if options.get("data.labels") == "multi" else "cross_entropy"
    if options.get("recipe.loss") == fitting:
        yield "recipe.loss"


def _idle_arguments(model: dict[str, Any]) -> Iterator[str]:
    """The arguments of a network of ours that change nothing, as model.<name>."""
    for name, value in WITHOUT_EFFECT_IN_NETWORKS.get(str(model.get("_target_")), {}).items():
        if name in model and model[name] == value:
            yield f"model.{name}"
    for name, (other, value) in WITHOUT_EFFECT_BESIDE.get(str(model.get("_target_")), {}).items():
        if model.get(other) == value:
            yield f"model.{name}"


def _without(config: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    left = {key: dict(node) if isinstance(node, dict) else node for key, node in config.items()}
    for name in names:
        section, _, key = name.rpartition(".")
        node = left.get(section) if section else left
        if isinstance(node, dict) and key in node:
            node.pop(key)
            if not node:
                left.pop(section)
    return left


def _digest(value: dict[str, Any]) -> str:
    text = json.dumps(_plain(value), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _plain(value: Any) -> Any:
    """The value as it is read back from run.json, and 1.0 as 1 if they mean the same."""
    if isinstance(value, dict):
        return {
            str(key): 1.0 if key in NUMBER_OR_SHARE and _is_all(item) else _plain(item)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return int(value) if value.is_integer() else value
    return value


def _is_all(value: Any) -> bool:
    return isinstance(value, float) and value == 1
