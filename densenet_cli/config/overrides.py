"""Overrides (`model.depth=40`, `+model.x=1`, `~logger`) as text: their keys, their values, and quotes.

A user's shell has taken the quotes away that he typed, and Hydra's grammar needs some around paths.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from densenet_cli.options import UserError
from densenet_cli.record.trained_on import PLACES

NEW_FOLDERS = ("resume", "hydra.run.dir", "hydra.sweep.dir", "sweep.name")  # need not exist yet
IMAGE_PLACES = tuple(f"data.{name}" for name in PLACES)
PACK = "data.pack"  # a path, or true or false
PATHS = ("checkpoint", *IMAGE_PLACES, PACK, "pretrained.weights", *NEW_FOLDERS)
OVERRIDES = ("sweep.baseline",)  # its value is an override, or several
# Paths that Hydra reads as text without quotes.
PLAIN = re.compile(r"(?!(true|false|inf|nan)$)([A-Za-z_/]|\.{1,2}/)[\w./-]*", re.ASCII | re.IGNORECASE)


def key(override: str) -> str:
    """The key of an override: `model.depth` of `++model.depth=40`."""
    return override.lstrip("+~").partition("=")[0]


def section(override: str) -> str:
    """The first part of its key: `model` of `++model.depth=40`, `hydra` of `hydra/launcher=joblib`."""
    return key(override).partition(".")[0].partition("/")[0]


def value(overrides: Sequence[str], name: str) -> str | None:
    """The value typed last for a key; None if there is none, or if it is null.

    Raises:
        UserError: if it is empty.
    """
    refuse_empty(overrides, name)
    texts = [override.partition("=")[2] for override in overrides if key(override) == name]
    return unquoted(texts[-1]) if texts and texts[-1].lower() != "null" else None


def refuse_empty(overrides: Sequence[str], name: str) -> None:
    """Raise UserError if an override has this key, and an empty value."""
    for override in overrides:
        if key(override) == name and override.partition("=")[2] in ("", "''", '""'):
            raise UserError(f"{name}=: has no value")


def refuse_two_lengths(overrides: Sequence[str]) -> None:
    """Raise UserError if a run gets two of a budget, a number of steps and a number of epochs."""
    names = ("budget", "recipe.steps", "epochs")
    given = {name: text for name in names if (text := value(overrides, name)) is not None}
    if len(given) > 1:
        (name, text), (other, also), *_ = given.items()
        rule = f"cannot be combined with {other}={also}: each says how long to train; "
        rule += f"type one of them, or {other}=null"
        raise UserError(f"{name}={text}: {rule}")


def with_quoted_paths(overrides: Sequence[str]) -> list[str]:
    """The overrides, with quotes where Hydra needs them: around paths, and overrides as values."""
    return [
        _with_quoted_overrides(one) if key(one) in OVERRIDES else _with_quoted_path(one)
        for one in overrides
    ]


def _with_quoted_overrides(override: str) -> str:
    name, _, text = override.partition("=")
    return f"{name}={quoted(text)}" if "=" in text and text[0] not in "'\"" else override


def _with_quoted_path(override: str) -> str:
    name, _, text = override.partition("=")
    if key(override) not in PATHS or not text or PLAIN.fullmatch(text) or _has_meaning(text):
        return override
    if key(override) in NEW_FOLDERS:
        return f"{name}={_quoted_path(os.path.expanduser(text))}"
    parts = [text] if _exists(text) else text.split(",")  # perhaps a grid of paths
    words = ("true", "false") if key(override) == PACK else ()
    return f"{name}={','.join(one if one.lower() in words else _quoted_path(one) for one in parts)}"


def _has_meaning(text: str) -> bool:
    """Whether a text that is no existing path has a meaning of its own in Hydra's grammar."""
    function = re.match(r"(choice|glob|range|interval|sort|shuffle|tag|str|extend_list)\(.*\)$", text)
    is_quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return (text.lower() == "null" or is_quoted or function is not None) and not _exists(text)


def _quoted_path(text: str) -> str:
    """A path in quotes; ${...} in it is an interpolation unless a folder of this name exists."""
    path = Path(os.path.expanduser(text))
    is_name = any(os.path.lexists(part) for part in (path, *path.parents) if "${" in part.name)
    return quoted(text) if is_name else QuotedString(text, Quote.single).with_quotes()


def _exists(text: str) -> bool:
    return os.path.lexists(os.path.expanduser(text))


def quoted(text: str) -> str:
    """A text in quotes and escaped, so that neither Hydra nor OmegaConf changes any character of it."""
    literal = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    return QuotedString(literal, Quote.single).with_quotes()


def unquoted(text: str) -> str:
    """The inverse of `quoted`; a text without quotes is returned as it is."""
    if text[0] not in "'\"":
        return text
    try:
        value = OverridesParser.create().parse_override(f"x={text}").value()
    except HydraException:
        return text.strip("'\"")
    if not isinstance(value, str):
        return text
    return re.sub(r"(\\*)\\\$\{", lambda found: "\\" * (len(found[1]) // 2) + "${", value)
