"""The record of a run, as densenet-run writes it, for tests to change."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

CONFIG: dict[str, Any] = {
    "task": "train",
    "epochs": 300,
    "seed": 0,
    "checkpoint": None,
    "checkpoint_minutes": 10,
    "resume": None,
    "next_steps": [],
    "model": {
        "_target_": "densenet_cli.models.densenet.DenseNet",
        "growth_rate": 12,
        "depth": 100,
        "block_config": None,
        "bottleneck": True,
        "compression": 0.5,
        "stem": "cifar",
        "init_channels": None,
        "dropout": 0.0,
    },
    "data": {
        "_target_": "densenet_cli.data.cifar.Cifar10",
        "root": "~/.cache/densenet-cli",
        "batch_size": 64,
        "num_workers": None,
        "augment": True,
        "validation": 0,
        "seed": 0,
        "normalise": "mean_std",
        "download": True,
        "verify": True,
    },
    "recipe": {
        "batch_size": 64,
        "epochs": 300,
        "report": "last",
        "dropout": 0.0,
        "label_smoothing": 0.0,
        "gradient_clip": None,
        "ema_decay": None,
        "optimizer": {
            "_target_": "torch.optim.SGD",
            "lr": 0.1,
            "momentum": 0.9,
            "nesterov": True,
            "weight_decay": 0.0001,
        },
        "schedule": {
            "_target_": "densenet_cli.training.schedules.divide_when_reached",
            "fractions": [0.5, 0.75],
            "divisor": 10,
        },
    },
    "trainer": {
        "accelerator": "auto",
        "devices": 1,
        "num_nodes": 1,
        "strategy": "auto",
        "precision": "auto",
        "sync_batchnorm": False,
    },
    "pretrained": {"weights": None, "frozen": False, "layer_decay": 1},
    "logger": {},
}
RESNET = {
    "_target_": "densenet_cli.models.resnet.ResNet",
    "depth": 110,
    "shortcut": "A",
    "survival_probability": None,
}
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
FIELDS: dict[str, Any] = {
    "format": 1,
    "state": "done",
    "results": {
        "test_loss_last": 0.18,
        "test_error_last": 4.6,
        "test_top5_error_last": 0.1,
        "best_epoch": 290,
        "test_error_best": 4.4,
        "best_on_test": True,
        "test_loss": 0.18,
        "test_error": 4.6,
        "test_top5_error": 0.1,
    },
    "overrides": [],
    "config": CONFIG,
    "seed": 0,
    "git": "0123456789abcdef0123456789abcdef01234567",
    "versions": {"python": "3.11.7", "torch": "2.14.1", "torchvision": "0.29.1"},
    "host": "node1",
    "started": "2026-11-22T02:00:00+00:00",
    "updated": "2026-11-22T12:00:00+00:00",
    "parameters": 769162,
    "multiply_adds": 287929692,
    "data": {
        "name": "cifar10",
        "num_classes": 10,
        "class_names": CLASSES,
        "image_size": [32, 32],
        "sizes": {"train": 50000, "validation": 0, "test": 10000},
        "statistics": {"mean": [0.4914, 0.4822, 0.4465], "std": [0.247, 0.2435, 0.2616]},
    },
    "device": "NVIDIA H100",
    "processes": 1,
    "precision": "32-true",
    "epochs": 300,
    "epoch": 300,
    "seconds": 36000.0,
    "train_seconds": 34000.0,
    "images_per_second": 441.2,
    "peak_memory_bytes": 2_818_519_040,
}


def fields(test_error: float | None = None, /, **options: Any) -> dict[str, Any]:
    """The content of run.json.

    Args:
        test_error: of the last epoch, in percent; the lowest one is 0.2 less.
        options: options as typed with "__" for ".", as model__depth=40; all else are fields.
    """
    record = copy.deepcopy(FIELDS)
    if test_error is not None:
        record["results"] |= {"test_error": test_error, "test_error_last": test_error}
        record["results"]["test_error_best"] = max(round(test_error - 0.2, 4), 0)
    for name, value in options.items():
        section, _, rest = name.partition("__")
        if section in record["config"] and (rest or section in ("seed", "model", "task")):
            _set(record["config"], name.split("__"), value)
        if not rest and section not in ("model", "task"):
            record[name] = value
    record["config"]["epochs"] = options.get("epochs", record["config"]["epochs"])
    record["config"]["data"]["seed"] = record["config"]["seed"]
    return record


def write(folder: Path, test_error: float | None = None, /, **options: Any) -> Path:
    """Write such a record into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(fields(test_error, **options), indent=2))
    return folder


def _set(node: dict[str, Any], path: list[str], value: Any) -> None:
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
