"""Hydra's and OmegaConf's errors in our words: the override as typed, the rule, what was meant."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path

import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from densenet_cli.config.compose import CONF, compose, composing
from densenet_cli.config.known_keys import meant
from densenet_cli.config.overrides import key
from densenet_cli.options import nearest
from densenet_cli.plain_text import first_line

ALL = "densenet-run --help lists all"
FEW = 15  # names that a message lists
SHOWN = 3  # of the choices that have an option


def explain(error: Exception, overrides: Sequence[str]) -> str | None:
    """One message for an error that overrides caused; None for any other error."""
    if isinstance(error, MissingConfigException):
        return _unknown_choice(error)
    if isinstance(error, OverrideParseException):
        override = error.override or ""
        return f"{override}: cannot be read as key=value{_way_to_write(override, overrides)}"
    for cause in (error, error.__cause__):
        if isinstance(cause, (ConfigKeyError, ConfigAttributeError)):
            return _unknown_key(cause, overrides)
        if isinstance(cause, OmegaConfBaseException):
            return f"{cause.full_key}: {first_line(cause)}" if cause.full_key else first_line(cause)
    if isinstance(error, HydraException):
        return _unknown_group(overrides) or _sentence(error)
    return _no_name(overrides) if isinstance(error, ValueError) else None


def _way_to_write(override: str, overrides: Sequence[str]) -> str:
    """How what cannot be read was likely meant: "" if that is not known."""
    name, equals, value = override.partition("=")
    after = list(overrides[overrides.index(override) + 1 :]) if override in overrides else []
    if not equals and len(after) > 1 and after[0] == "=":
        return f"; write it without spaces: {override}={after[1]}"
    if not equals:
        groups = [folder.name for folder in sorted(CONF.iterdir()) if override in _choices(folder.name)]
        if groups:
            return f"; did you mean {groups[0]}={override}?"
        if (Path(override) / "run.json").exists():
            return f"; a run is resumed by resume={override}"
        is_folder = Path(override).is_dir()
        return f"; photos are data=image_folder data.root={override}" if is_folder else ""
    for opening, closing in ("[]", "{}", "()"):
        if value.count(opening) > value.count(closing):  # the shell has split it at a space
            end = next((index for index, word in enumerate(after, 1) if closing in word), 0)
            typed = f": '{' '.join([override, *after[:end]])}'" if end else ""
            return f"; a part is missing, perhaps after a space: leave out spaces, or use quotes{typed}"
    return f"; quote such a value twice: '{name}=\"{value}\"'" if set("=, ") & set(value) else ""


def _unknown_choice(error: MissingConfigException) -> str:
    """A group has no such file: model=densenet_bc_1000, model=history/vgg_61, hydra/launcher=x."""
    file = error.missing_cfg_file or ""
    group, _, name = file.rpartition("/") if file.startswith("hydra/") else file.partition("/")
    if not error.options:
        return first_line(error)
    folder, _, stem = name.rpartition("/")
    known = sorted({*error.options, *_choices(group)}, key=lambda one: one.rpartition("/")[0] == folder)
    stems = {one.rpartition("/")[2]: one for one in known}  # those of the same folder replace others
    few = f"there are {', '.join(error.options)}" if len(error.options) <= FEW else ALL
    if begun := [one for one in sorted(known) if one.rpartition("/")[2].startswith(f"{stem}_")]:
        return f"{group}={name}: there is no such choice; there are {', '.join(begun[:FEW])}"
    near = nearest(stem, stems)
    hint = f"did you mean {group}={stems[near]}? {ALL}" if near else few
    return f"{group}={name}: there is no such choice; {hint}"


def _unknown_key(cause: OmegaConfBaseException, overrides: Sequence[str]) -> str:
    name = str(cause.full_key or cause.key)
    typed = next((one for one in overrides if one.partition("=")[0] == name), name)
    # A sweep's error is explained within `composing`, which Hydra 1.4 does not nest.
    with contextlib.nullcontext() if GlobalHydra.instance().is_initialized() else composing():
        cfg = compose(_of_known_groups(overrides))
    if having := _with_option(name):
        more = f" and {len(having) - SHOWN} others" if len(having) > SHOWN else ""
        hint = f"it is an option of {', '.join(having[:SHOWN])}{more}"
    elif near := meant(name, cfg):
        hint = f"did you mean {near}{typed[len(name) :]}?"
    else:
        names = cause.parent_node if OmegaConf.is_dict(cause.parent_node) else []
        known = ", ".join(sorted(str(one) for one in names if one != "hydra"))
        hint = f"{name.rpartition('.')[0] or 'the configuration'} has {known or 'no options'}"
    return f"{typed}: there is no such option; {hint}"


def _with_option(name: str) -> list[str]:
    """The choices that have an option: model=timm and model=torchvision for model.name.

    Of choices that are based on others, only the others are named.
    """
    group, _, option = name.partition(".")
    contents = {
        one: yaml.safe_load((CONF / group / f"{one}.yaml").read_text()) for one in _choices(group)
    }
    having = {one for one, content in contents.items() if content and option in content}
    return [
        f"{group}={one}" for one in sorted(having) if not having & {*contents[one].get("defaults", ())}
    ]


def _unknown_group(overrides: Sequence[str]) -> str | None:
    """A choice typed as if its subfolder were a group: model/history=lenet_5."""
    for override in overrides:
        folder, _, name = override.partition("=")
        group, _, rest = folder.partition("/")
        if rest and group != "hydra" and _choices(group):
            return f"{override}: there is no such group; did you mean {group}={rest}/{name}?"
    return None


def _no_name(overrides: Sequence[str]) -> str | None:
    """A group is given a number or null where it needs a name: model=5, logger=null."""
    for override in overrides:
        names = _choices(key(override))
        if not key(override):
            return f"{override}: cannot be read as key=value"
        if names and override.partition("=")[2] not in names:
            few = f": {', '.join(names)}" if len(names) <= FEW else f"; {ALL}"
            return f"{override}: must name a choice{few}"
    return None


def _of_known_groups(overrides: Sequence[str]) -> list[str]:
    return [one for one in overrides if one.partition("=")[2] in _choices(one.partition("=")[0])]


def _choices(group: str) -> list[str]:
    """The names of our own choices of a group, such as densenet_bc_100 and history/lenet_5 of model."""
    files = (CONF / group).rglob("*.yaml") if re.fullmatch(r"\w+", group) else ()
    return sorted(str(Path(file).relative_to(CONF / group).with_suffix("")) for file in files)


def _sentence(error: Exception) -> str:
    """Hydra's own message, in one line."""
    text = re.sub(r"\nSet the environment variable.*", "", str(error).strip(), flags=re.DOTALL)
    return " ".join(line.strip() for line in text.splitlines() if line.strip())
