"""Refuses options that nothing would read, and says which were likely meant."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from densenet_cli.config import overrides
from densenet_cli.options import OptionError, UserError, nearest, shown
from densenet_cli.record import schema
from densenet_cli.record.identity import flat

OF_HYDRA = ("hydra.run.dir", "hydra.searchpath")  # what a single run reads of Hydra's section
WHOLE_SWEEP = ("sweep", "seeds", "plan", "hydra")  # what a sweep reads once, not for each run
SECTIONS = ["model", "data", "recipe", "trainer", "pretrained", "logger"]
# The options of seeds=until_decided in the section `sweep`, and the values at which nothing is asked.
UNTIL_DECIDED = {"baseline": None, "margin": None, "first_seeds": 3, "most_seeds": 10}
# Names in the paper and in older versions of Lightning.
ALSO_CALLED = {"k": "growth_rate", "L": "depth", "theta": "compression", "gpus": "devices"}
# What is read of each section whose options go to no class or function; those check their own names.
READ = {
    "": [*schema.TOP, "budget", *SECTIONS, "sweep", "seeds", "plan"],
    "recipe": [
        *schema.KEYS["recipe"],
        *("batch_size", "epochs", "steps", "dropout", "randaugment", "loss", "class_weights"),
        *("mixup", "cutmix", "ema_share", "warm_up", "reset_momentum_at_drops"),
    ],
    "pretrained": ["weights", "frozen", "layer_decay"],
    "sweep": ["name", "jobs", "fail_fast", "pruner", *UNTIL_DECIDED],
}


def check(cfg: DictConfig) -> None:
    """Raise UserError if nothing reads an option of a composed configuration.

    Interpolations read options too: ${recipe.mine} makes recipe.mine a known option.
    """
    config = _plain(cfg)
    named = _named_by_interpolations(config)
    for section, keys in READ.items():
        node = config.get(section) if section else config
        for key, value in node.items() if isinstance(node, dict) else ():
            full = f"{section}.{key}" if section else str(key)
            if key not in keys and full not in named:
                raise UserError(_refusal(full, value, cfg))
    logger = config.get("logger")
    if isinstance(logger, dict) and logger and "_target_" not in logger:
        name, value = next(iter(logger.items()))
        loggers = "logger=tensorboard, logger=wandb or logger=mlflow"
        rule = f"nothing reads it, since no logger is chosen; type {loggers} too"
        raise UserError(f"logger.{name}={shown(value)}: {rule}")


def check_sweep_file(cfg: DictConfig, without: DictConfig) -> None:
    """Raise UserError if a sweep's file has options outside `sweep`, where no run reads them.

    Args:
        cfg: the configuration of the sweep as a whole.
        without: the same without the file.
    """
    now, before = flat(_plain(cfg)), flat(_plain(without))
    for name, value in now.items():
        if name.partition(".")[0] not in WHOLE_SWEEP and (name not in before or before[name] != value):
            rule = "no run reads this option of a sweep's file; write it into the lines of sweep.jobs"
            raise UserError(f"{name}={shown(value)}: {rule}")


def check_hydra(typed: Iterable[str]) -> None:
    """Raise UserError if an override is of an option of Hydra's that no single run reads."""
    for override in typed:
        name = overrides.key(override)
        if overrides.section(override) == "hydra" and name not in OF_HYDRA:
            near = nearest(name, OF_HYDRA)
            hint = f"did you mean {near}?" if near else f"a run reads {' and '.join(OF_HYDRA)} alone"
            raise UserError(f"{override}: nothing reads this option of Hydra's; {hint}")


def check_single_run(cfg: DictConfig) -> None:
    """Raise OptionError if a file, such as an experiment's, has options that no single run reads.

    Args:
        cfg: the configuration of a single run, with Hydra's own section.
    """
    chosen = cfg.hydra.runtime.choices
    of_sweeps: list[tuple[str, Any, Any]] = [  # name, value, value of a single run
        ("sweep.jobs", list(OmegaConf.select(cfg, "sweep.jobs") or [""]), [""]),
        ("sweep.name", OmegaConf.select(cfg, "sweep.name"), None),
        ("sweep.fail_fast", OmegaConf.select(cfg, "sweep.fail_fast") or False, False),
        ("sweep.pruner", OmegaConf.select(cfg, "sweep.pruner"), None),
        *(
            (f"sweep.{name}", OmegaConf.select(cfg, f"sweep.{name}", default=unset), unset)
            for name, unset in UNTIL_DECIDED.items()
        ),
        ("seeds", cfg.get("seeds"), None),
        ("plan", str(cfg.get("plan") or False).lower(), "false"),
        ("hydra.sweeper.params", dict(cfg.hydra.sweeper.get("params") or {}), {}),
        ("hydra.mode", (cfg.hydra.mode or RunMode.RUN).name, "RUN"),
        *((name, chosen.get(name), "basic") for name in ("hydra/sweeper", "hydra/launcher")),
    ]
    for name, value, of_run in of_sweeps:
        if value != of_run:
            raise OptionError(name, value, "is for several runs; type --multirun too")
    for name in ("callbacks", "job.chdir", "job.env_set", "verbose"):
        if value := OmegaConf.select(cfg.hydra, name):  # by default null, false or {}
            raise OptionError(f"hydra.{name}", value, "nothing reads this option of Hydra's")


def meant(key: str, cfg: DictConfig) -> str | None:
    """The option that a key most likely meant.

    An option of the same name in another section, else one with a similar name in the same section,
    else one with a similar name anywhere.
    """
    section, _, name = key.rpartition(".")
    name = ALSO_CALLED.get(name, name)
    known = {option for option in flat(_plain(cfg)) if _is_read(option)}
    known |= {f"{part}.{one}" if part else one for part, names in READ.items() for one in names}
    beside = {one.rpartition(".")[2]: one for one in sorted(known) if one.rpartition(".")[0] == section}
    elsewhere = {one.rpartition(".")[2]: one for one in sorted(known, reverse=True)}
    for names in ({name: elsewhere[name]} if name in elsewhere else {}, beside, elsewhere):
        if (near := nearest(name, names)) is not None:
            return names[near]
    return None


def _is_read(option: str) -> bool:
    """Whether something reads an option, as far as `READ` tells."""
    section, _, name = option.rpartition(".")
    if option.partition(".")[0] not in READ[""]:
        return False
    return section not in READ or name in READ[section]


def _refusal(key: str, value: Any, cfg: DictConfig) -> str:
    if key == "experiment" and isinstance(value, dict):
        return (
            "experiment: nothing reads options below experiment, where those of the file would be; "
            "write '# @package _global_' into its first line"
        )
    near = meant(key, cfg)
    section = key.rpartition(".")[0]
    hint = f"did you mean {near}?" if near else f"{section or 'there'} is {', '.join(READ[section])}"
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


def _plain(cfg: DictConfig) -> dict[str, Any]:
    """The configuration in plain dictionaries, with its interpolations as text."""
    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=False)  # type: ignore[assignment]
    return config
