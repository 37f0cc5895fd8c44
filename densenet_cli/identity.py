"""Which runs are the same run, and which the same setting with another seed."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator
from typing import Any

from densenet_cli.record import finite

# Where things lie, what is shown and how often is saved: none of it changes a result.
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
    "trainer.enable_progress_bar",
)
SEEDS = ("seed", "data.seed")


def identity(config: dict[str, Any]) -> str:
    """A name for all that decides what a run gives; equal for equal resolved configurations.

    Args:
        config: the resolved configuration of a run, or what run.json holds of it.

    Returns:
        Twelve hexadecimal digits.
    """
    return _digest(_without(config, WITHOUT_EFFECT))


def setting(config: dict[str, Any]) -> str:
    """As `identity`, but equal also for runs that differ in nothing but the seed."""
    return _digest(_without(config, WITHOUT_EFFECT + SEEDS))


def flat(config: dict[str, Any], section: str = "") -> dict[str, Any]:
    """The options as they are typed: {"model.growth_rate": 12, "epochs": 300, ...}."""
    return dict(_flat(config, section))


def _flat(config: dict[str, Any], section: str) -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        name = f"{section}.{key}" if section else str(key)
        if isinstance(value, dict) and value:
            yield from _flat(value, name)
        else:
            yield name, value


def _without(config: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    left = copy.deepcopy(config)
    for name in names:
        *sections, key = name.split(".")
        node: Any = left
        for section in sections:
            node = node.get(section) if isinstance(node, dict) else None
        if isinstance(node, dict):
            node.pop(key, None)
    return left


def _digest(value: dict[str, Any]) -> str:
    text = json.dumps(finite(value), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
