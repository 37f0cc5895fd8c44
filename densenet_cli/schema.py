"""Which keys a configuration must have, whatever their values."""

from __future__ import annotations

from typing import Any

from densenet_cli.options import UserError, shown

TOP = ["task", "epochs", "seed", "checkpoint", "checkpoint_minutes", "resume", "next_steps"]
KEYS = {
    "": TOP,
    "logger": [],
    "model": ["_target_"],
    "data": ["_target_", "batch_size"],
    "recipe": ["report", "label_smoothing", "gradient_clip", "ema_decay", "optimizer", "schedule"],
    "recipe.optimizer": ["_target_", "lr"],
    "recipe.schedule": ["_target_"],
    "trainer": ["accelerator", "devices", "num_nodes", "strategy", "precision"],
}  # section -> keys; a section stands after the one it is part of


def check(config: Any) -> None:
    """Raise UserError if a key is missing, or a section is no section."""
    for section, keys in KEYS.items():
        node = config
        for name in section.split(".") if section else []:
            node = node.get(name)
            if not isinstance(node, dict):
                raise UserError(f"{section}={shown(node)}: must be a section of options")
        if not isinstance(node, dict):
            raise UserError("the configuration is no mapping")
        for key in keys:
            if key not in node:
                full = f"{section}.{key}" if section else key
                raise UserError(f"{full} is missing: it must have a value and cannot be removed")
    if not isinstance(config["next_steps"], list):
        raise UserError(f"next_steps={shown(config['next_steps'])}: must be a list of lines")
