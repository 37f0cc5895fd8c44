"""Hydra's and OmegaConf's errors in our words: the key as typed, the rule, what was likely meant."""

from __future__ import annotations

import re
from typing import Any

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from densenet_cli.config.known_keys import meant
from densenet_cli.options import nearest
from densenet_cli.plain_text import first_line


def explain(error: Exception, words: list[str]) -> str:
    """One message for an error in the words a user typed."""
    if isinstance(error, MissingConfigException):
        return _missing_choice(error)
    if isinstance(error, OverrideParseException):
        key, _, value = (error.override or "").partition("=")
        hint = f"; quote such a value twice: '{key}=\"{value}\"'" if set("=, ") & set(value) else ""
        return f"{error.override}: cannot be read as key=value{hint}"
    for cause in (error, error.__cause__):
        if isinstance(cause, (ConfigKeyError, ConfigAttributeError)):
            return _unknown_key(cause, words)
        if isinstance(cause, OmegaConfBaseException):
            key = f"{cause.full_key}: " if cause.full_key else ""
            return f"{key}{first_line(cause)}"
    return _unknown_group(error)


def _missing_choice(error: MissingConfigException) -> str:
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    options = list(error.options or [])
    if not group or not options:
        return first_line(error)
    group, _, folder = group.partition("/")
    if folder:  # model=history/...: the options are those beside the folder
        return f"{group}={folder}/{name}: there is no such choice (densenet-run --help lists all)"
    near = nearest(name, options)
    hint = f"did you mean {group}={near}?" if near else f"there are {', '.join(options)}"
    return f"{group}={name}: there is no such choice; {hint} (densenet-run --help lists all)"


def _unknown_key(cause: OmegaConfBaseException, words: list[str]) -> str:
    key = str(cause.full_key or cause.key)
    typed = next((word for word in words if word.partition("=")[0] == key), key)
    parent = cause.parent_node
    whole: Any = OmegaConf.to_container(parent._get_root(), resolve=False) if parent is not None else {}
    near = meant(key, whole) if isinstance(whole, dict) else None
    if near:
        hint = f"did you mean {near}{typed[len(key) :]}?"
    else:
        names = [str(known) for known in parent] if OmegaConf.is_dict(parent) else []
        known = ", ".join(sorted(name for name in names if name != "hydra"))
        hint = f"{key.rpartition('.')[0] or 'the configuration'} has {known or 'no options'}"
    return f"{typed}: there is no such option; {hint}"


def _unknown_group(error: Exception) -> str:
    """Errors that Hydra words without a class of their own."""
    text = str(error).strip()
    if isinstance(error, HydraException):
        text = re.sub(r"\nSet the environment variable.*", "", text, flags=re.DOTALL)
        return " ".join(line.strip() for line in text.splitlines() if line.strip())
    return f"{type(error).__name__}: {text}"
