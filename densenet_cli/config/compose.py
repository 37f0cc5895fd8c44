"""Words as they are typed -> the resolved configuration of one run."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from densenet_cli.config import known_keys
from densenet_cli.config.trust import check_words
from densenet_cli.options import UserError
from densenet_cli.record import schema
from densenet_cli.record.run_record import read_config

PACKAGE = Path(__file__).parents[1]
# Inside the package where it was installed from a wheel, beside it in a checkout.
CONF = next((path for path in (PACKAGE / "conf", PACKAGE.parent / "conf") if path.is_dir()), None)
NEW_FOLDERS = ("resume", "hydra.run.dir", "hydra.sweep.dir", "sweep.name")  # they may be missing yet
PATHS = ("checkpoint", "data.root", "pretrained.weights", *NEW_FOLDERS)
PLAIN = re.compile(r"(?!(true|false|inf|nan)$)([A-Za-z_/]|\.{1,2}/)[\w./-]*", re.ASCII | re.IGNORECASE)
OF_SWEEPS = ("sweep", "seeds", "plan")  # sections of the configuration that no single run knows

# Hydra copies its sources for each configuration that it composes and each group that its help lists.
# The store among them is one for the whole process; copying it was two thirds of the time of --help.
ConfigStore.__deepcopy__ = lambda store, memo: store  # type: ignore[attr-defined]


@contextlib.contextmanager
def composing(config_dir: str | None = None) -> Iterator[list[str]]:
    """Let `compose` work within. Yields the words that add a folder of the user's own choices."""
    own = []
    if config_dir:
        check_names(Path(config_dir))
        own = [f"hydra.searchpath=[{quoted('file://' + os.path.abspath(config_dir))}]"]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        yield own


def check_names(own: Path) -> None:
    """Choices of the user's own must not have the names of ours, which Hydra takes first.

    Raises:
        UserError: one has, and differs from ours.
    """
    assert CONF is not None
    for file in sorted(own.rglob("*.yaml")):
        name = file.relative_to(own)
        if (CONF / name).is_file() and (CONF / name).read_bytes() != file.read_bytes():
            other = name.with_stem(f"{name.stem}_mine")
            rule = f"is the name of another choice here, which would be taken; rename it, as to {other}"
            raise UserError(f"--config-dir={own}: {name} {rule}")


def compose(words: list[str], with_hydra: bool = False) -> DictConfig:
    """The configuration that words make, unresolved; within `composing` only."""
    return hydra.compose("config", overrides=words, return_hydra_config=with_hydra)


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """The configuration of a run in plain dictionaries, without interpolations.

    Raises:
        UserError: if a key that every run needs is missing, or one is there that nothing reads.
        OmegaConfBaseException: if an interpolation cannot be resolved.
    """
    config = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    assert isinstance(config, dict)
    schema.check(config)
    known_keys.check(cfg)
    return {str(key): value for key, value in config.items() if key not in OF_SWEEPS}


def output_folder() -> Path:
    """The folder that Hydra has made for the run, in whose name ${...} is no interpolation."""
    runtime = OmegaConf.to_container(HydraConfig.get().runtime, resolve=False)
    return Path(runtime["output_dir"])  # type: ignore[index,call-overload]


def as_trained(words: list[str]) -> list[str]:
    """For task=test: the words that the checkpoint's run was typed with, then those typed now."""
    checkpoint = value(words, "checkpoint")
    folder = Path(os.path.expanduser(checkpoint)).parent.parent if checkpoint else None
    if value(words, "task") != "test" or folder is None or not (folder / "run.json").exists():
        return words
    _, overrides = read_config(folder)
    typed = {key(word) for word in words}
    kept = [word for word in overrides if not {key(word), key(word).partition(".")[0]} & typed]
    check_words(kept, folder / "overrides.yaml", "where it is meant so, type it besides")
    return kept + words


def key(word: str) -> str:
    """The key of a word: `model.depth` of `++model.depth=40`."""
    return word.lstrip("+~").partition("=")[0]


def value(words: list[str], name: str) -> str | None:
    """The value typed for a key, unless it is null. Raises UserError if it is empty."""
    texts = [word.partition("=")[2] for word in words if key(word) == name]
    if "" in texts or "''" in texts or '""' in texts:
        raise UserError(f"{name}=: has no value")
    return unquoted(texts[-1]) if texts and texts[-1].lower() != "null" else None


def without_flags(words: list[str]) -> tuple[str | None, list[str]]:
    """The folder of the user's own choices, if one is named, and the words without flags."""
    config_dir, rest = None, []
    waiting = iter(words)
    for word in waiting:
        flag, _, text = word.partition("=")
        if flag in ("--config-dir", "-cd"):
            config_dir = text or next(waiting, "")
        elif flag not in ("--multirun", "-m"):
            rest.append(word)
    return config_dir, rest


def as_paths(words: list[str]) -> list[str]:
    """The words, with names of files and folders quoted where Hydra's grammar needs it."""
    return [_as_path(word) for word in words]


def _as_path(word: str) -> str:
    name, _, text = word.partition("=")
    if key(word) not in PATHS or not text or PLAIN.fullmatch(text) or _is_hydras(text):
        return word
    if key(word) in NEW_FOLDERS:
        return f"{name}={_quoted_path(os.path.expanduser(text))}"
    parts = [text] if _exists(text) else text.split(",")  # perhaps a grid of paths
    return f"{name}={','.join(map(_quoted_path, parts))}"


def _is_hydras(text: str) -> bool:
    """Whether a text that names nothing on the disk has a meaning in Hydra's grammar."""
    function = re.match(r"(choice|glob|range|interval|sort|shuffle|tag|str|extend_list)\(.*\)$", text)
    is_quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return (text.lower() == "null" or is_quoted or function is not None) and not _exists(text)


def _quoted_path(text: str) -> str:
    """A path quoted; ${...} in it is an interpolation unless a folder is called so."""
    path = Path(os.path.expanduser(text))
    is_name = any(os.path.lexists(part) for part in (path, *path.parents) if "${" in part.name)
    return quoted(text) if is_name else QuotedString(text, Quote.single).with_quotes()


def _exists(text: str) -> bool:
    return os.path.lexists(os.path.expanduser(text))


def quoted(text: str) -> str:
    """Text as Hydra's grammar takes it whole, and OmegaConf as it stands, whatever it holds."""
    literal = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    return QuotedString(literal, Quote.single).with_quotes()


def unquoted(text: str) -> str:
    """What a text stands for that may be quoted; see `quoted`."""
    if text[0] not in "'\"":
        return text
    try:
        value = OverridesParser.create().parse_override(f"x={text}").value()
    except HydraException:
        return text.strip("'\"")
    if not isinstance(value, str):
        return text
    return re.sub(r"(\\*)\\\$\{", lambda found: "\\" * (len(found[1]) // 2) + "${", value)
