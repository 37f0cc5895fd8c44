"""Refuses the keys of a configuration that nothing would read, and says which were likely meant."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from omegaconf import DictConfig, OmegaConf

from densenet_cli.options import UserError, nearest, shown
from densenet_cli.record import schema
from densenet_cli.record.identity import flat

WHOLE_SWEEP = ("sweep", "seeds", "plan", "hydra")  # what is read of a sweep as a whole
SECTIONS = ["model", "data", "recipe", "trainer", "pretrained", "logger"]
# What is read of each section whose options go to no class or function; those check their own names.
READ = {
    "": [*schema.TOP, *SECTIONS, "sweep", "seeds", "plan"],
    "recipe": [*schema.KEYS["recipe"], "batch_size", "epochs", "dropout"],
    "pretrained": ["weights", "frozen", "layer_decay"],
    "sweep": ["name", "jobs", "fail_fast"],
}


def check(cfg: DictConfig) -> None:
    """Raise UserError if a composed configuration has a key that nothing reads.

    What an interpolation names is read, too: ${recipe.mine} makes recipe.mine a key like others.
    """
    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=False)  # type: ignore[assignment]
    named = _named_by_interpolations(config)
    for section, keys in READ.items():
        node = config.get(section) if section else config
        for key, value in node.items() if isinstance(node, dict) else ():
            full = f"{section}.{key}" if section else str(key)
            if key not in keys and full not in named:
                raise UserError(_refusal(full, value, config))
    logger = config.get("logger")
    if isinstance(logger, dict) and logger and "_target_" not in logger:
        name, value = next(iter(logger.items()))
        rule = (
            "nothing reads it, since no logger is chosen; type logger=tensorboard, wandb or mlflow too"
        )
        raise UserError(f"logger.{name}={shown(value)}: {rule}")


def check_sweep_file(cfg: DictConfig, without: DictConfig) -> None:
    """Raise UserError if a sweep's file has options outside sweep, where no job reads them.

    Args:
        cfg: the configuration of the sweep as a whole.
        without: the same without the file.
    """
    now, before = (flat(OmegaConf.to_container(one, resolve=False)) for one in (cfg, without))  # type: ignore[arg-type]
    for name, value in now.items():
        if name.partition(".")[0] not in WHOLE_SWEEP and (name not in before or before[name] != value):
            rule = "no job reads this option of a sweep's file; write it into the lines of sweep.jobs"
            raise UserError(f"{name}={shown(value)}: {rule}")


def check_hydra(node: Any, path: str = "hydra") -> None:
    """Raise UserError if Hydra's own section has a key that Hydra does not know.

    Args:
        node: that section, or a part of it.
        path: its key.
    """
    if not isinstance(node, DictConfig) or node._is_none() or node._is_missing():
        return
    kind = OmegaConf.get_type(node)
    names = [one.name for one in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else node
    for key in map(str, node):
        if key not in names and f"{path}.{key}" != "hydra.env":  # a group of Hydra's own, of no use
            near = nearest(key, names)
            hint = f"did you mean {path}.{near}?" if near else f"{path} has {', '.join(sorted(names))}"
            raise UserError(f"{path}.{key}: nothing reads such an option; {hint}")
        if not OmegaConf.is_missing(node, key):
            check_hydra(node._get_node(key), f"{path}.{key}")


def meant(key: str, config: dict[str, Any]) -> str | None:
    """The option that a key most likely meant: of its name in another section, or of a name near it."""
    section, _, name = key.rpartition(".")
    known = {one for one in flat(config) if _is_read(one)}
    known |= {f"{part}.{one}" if part else one for part, names in READ.items() for one in names}
    beside = {one.rpartition(".")[2]: one for one in sorted(known) if one.rpartition(".")[0] == section}
    elsewhere = {one.rpartition(".")[2]: one for one in sorted(known, reverse=True)}
    for names in ({name: elsewhere[name]} if name in elsewhere else {}, beside, elsewhere):
        if (near := nearest(name, names)) is not None:
            return names[near]
    return None


def _is_read(option: str) -> bool:
    """Whether an option may be read, by all that is known here."""
    section, _, name = option.rpartition(".")
    if option.partition(".")[0] not in READ[""]:
        return False
    return section not in READ or name in READ[section]


def _refusal(key: str, value: Any, config: dict[str, Any]) -> str:
    if key == "experiment" and isinstance(value, dict):
        return (
            "experiment: the file's options would all stand below experiment, where nothing reads "
            "them; write '# @package _global_' into its first line"
        )
    near = meant(key, config)
    section = key.rpartition(".")[0]
    names = READ.get(section, [])
    hint = f"did you mean {near}?" if near else f"{section or 'there'} is {', '.join(names)}"
    text = "{...}" if isinstance(value, dict) else shown(value)
    return f"{key}={text}: nothing reads such an option; {hint}"


def _named_by_interpolations(config: dict[str, Any]) -> set[str]:
    """The options that interpolations such as ${recipe.mine} and ${..mine} name, and their sections."""
    named: set[str] = set()
    for option, value in flat(config).items():
        texts = value if isinstance(value, list) else [value]
        for dots, name in re.findall(r"\$\{(\.*)([\w.]+)", " ".join(map(str, texts))):
            path = option.split(".")[: -len(dots)] if dots else []
            parts = [*path, *name.split(".")]
            named |= {".".join(parts[:length]) for length in range(1, len(parts) + 1)}
            named |= {one for one in flat(config) if one.startswith(".".join(parts) + ".")}
    return named
