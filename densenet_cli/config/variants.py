"""Composes the configurations of many runs: what they share once, and then the values that differ."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Sequence
from typing import Literal

from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf, open_dict

from densenet_cli.config.compose import compose
from densenet_cli.config.overrides import section

SETTING = (OverrideType.CHANGE, OverrideType.ADD, OverrideType.FORCE_ADD)  # k=v, +k=v, ++k=v
REMOVING = OverrideType.DEL  # ~k


class Variants:
    """Composes variants of a few configurations; each equals what `compose` makes of its overrides.

    Hydra takes 0.1 s for a configuration: it merges the files that the choices of groups name, and
    then sets values in the order typed. Here the files are merged once for each combination of choices,
    and only the values are set and removed anew. All else (the section hydra, what cannot be parsed) is
    left to Hydra, with everything typed before it; so is every error.

    Used within one `composing` only.
    """

    def __init__(self) -> None:
        self._merged: dict[tuple[str, ...], bytes] = {}  # pickled: copied in 0.2 ms instead of 2
        self._parse = functools.cache(OverridesParser.create().parse_override)
        self._groups = functools.cache(_groups)

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """The configuration with these overrides, unresolved."""
        try:
            merged, values = self._split(overrides)
            if merged not in self._merged:
                self._merged[merged] = pickle.dumps(compose(list(merged)))
            cfg: DictConfig = pickle.loads(self._merged[merged])
            for override in values:
                _set(cfg, override)
            return cfg
        except Exception:  # whatever it is, Hydra raises it again, with the message that is explained
            return compose(list(overrides))

    def _split(self, overrides: Sequence[str]) -> tuple[tuple[str, ...], list[Override]]:
        """The overrides that Hydra must compose, and those that can be set afterwards."""
        groups = self._groups(tuple(one for one in overrides if section(one) == "hydra"))
        parsed = [self._parse(one) for one in overrides]
        kinds = [_kind(one, groups) for one in parsed]
        begin = max((index + 1 for index, kind in enumerate(kinds) if kind == "other"), default=0)
        left = [index < begin or kind == "choice" for index, kind in enumerate(kinds)]
        return (
            tuple(one for one, is_left in zip(overrides, left, strict=True) if is_left),
            [one for one, is_left in zip(parsed, left, strict=True) if not is_left],
        )


def _kind(override: Override, groups: frozenset[str]) -> Literal["choice", "value", "other"]:
    """Choices are made before any value is set; the rest is done in the order typed."""
    key, value = override.key_or_group, override.value()
    if key.partition("/")[0] in groups and not isinstance(value, dict):
        return "choice"
    is_plain = key not in groups and "/" not in key and section(key) != "hydra"
    sets = override.type in SETTING or (override.type is REMOVING and override.value_type is None)
    is_single = override.package is None and not override.is_sweep_override()
    return "value" if is_plain and sets and is_single else "other"


def _groups(of_hydra: tuple[str, ...]) -> frozenset[str]:
    """The groups of choices, with those of the user's own folders, which hydra.searchpath names."""
    loader = GlobalHydra.instance().config_loader()
    names = loader.get_group_options("", ObjectType.GROUP, "config", list(of_hydra))
    return frozenset(names)


def _set(cfg: DictConfig, override: Override) -> None:
    """Set or remove a value as Hydra does.

    Raises:
        ValueError: if + is typed for a key that has a value, or ~ for one that has none.
    """
    key, value = override.key_or_group, override.value()
    if override.type is REMOVING:
        if OmegaConf.select(cfg, key, throw_on_missing=False) is None:
            raise ValueError(f"{key} has no value")
        parent, _, name = key.rpartition(".")
        with open_dict(cfg):
            del (OmegaConf.select(cfg, parent) if parent else cfg)[name]
        return
    is_new = override.type is OverrideType.ADD and not isinstance(value, (dict, list))
    if is_new and OmegaConf.select(cfg, key, throw_on_missing=False) is not None:
        raise ValueError(f"{key} has a value")
    OmegaConf.update(cfg, key, value, merge=True, force_add=override.type is not OverrideType.CHANGE)
