"""Overrides as they are typed -> the resolved configuration of one run."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from densenet_cli.config import known_keys
from densenet_cli.config.overrides import key, quoted, value
from densenet_cli.config.trust import check_stored_overrides
from densenet_cli.options import UserError
from densenet_cli.record import schema
from densenet_cli.record.run_record import read_config

PACKAGE = Path(__file__).parents[1]
# Inside the package where it was installed from a wheel, beside it in a checkout.
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"
OF_SWEEPS = ("sweep", "seeds", "plan")  # parts of the configuration that no single run reads
# Hydra 1.3 must be told to behave like 1.3; Hydra 1.4 does so, and warns where it is told.
VERSION_BASE = {"version_base": "1.3"} if hydra.__version__.startswith("1.3.") else {}


@contextlib.contextmanager
def composing(config_dir: str | None = None) -> Iterator[list[str]]:
    """Within, `compose` can be called.

    Args:
        config_dir: a folder with configuration files of the user's own.

    Yields:
        The overrides that add this folder; they must be given to each `compose`.

    Raises:
        UserError: if there is no such folder, or it hides files of ours.
    """
    own = []
    if config_dir:
        _check_own(Path(config_dir))
        own = [f"hydra.searchpath=[{quoted('file://' + os.path.abspath(config_dir))}]"]
    with hydra.initialize_config_dir(str(CONF), **VERSION_BASE):
        yield own


def _check_own(folder: Path) -> None:
    """Refuse files of the user's own that have the names of ours: Hydra would read ours."""
    if not folder.is_dir():
        raise UserError(f"--config-dir={folder}: there is no such folder")
    for file in sorted(folder.rglob("*.yaml")):
        name = file.relative_to(folder)
        if (CONF / name).is_file() and (CONF / name).read_bytes() != file.read_bytes():
            other = name.with_stem(f"{name.stem}_mine")
            rule = f"densenet-cli has a file of this name, and reads that; rename yours, as to {other}"
            raise UserError(f"--config-dir={folder}: {name}: {rule}")


def compose(overrides: list[str], with_hydra: bool = False) -> DictConfig:
    """The configuration with these overrides, unresolved. Only within `composing`.

    Args:
        overrides: as typed.
        with_hydra: keep Hydra's own section, `hydra`.
    """
    return hydra.compose("config", overrides=overrides, return_hydra_config=with_hydra)


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """The configuration of a run in plain dictionaries, without interpolations.

    Raises:
        UserError: if a key that every run needs is missing, or if nothing reads a key.
        OmegaConfBaseException: if an interpolation cannot be resolved.
    """
    config = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    assert isinstance(config, dict)
    schema.check_config(config)
    known_keys.check(cfg)
    return {str(key): value for key, value in config.items() if key not in OF_SWEEPS}


def as_trained(overrides: list[str]) -> list[str]:
    """For task=test: the overrides of the run that wrote the checkpoint, then those typed now.

    Raises:
        UserError: if a budget was typed, or the folder of the checkpoint has no configuration.
    """
    if value(overrides, "task") == "test" and (budget := value(overrides, "budget")) is not None:
        raise UserError(f"budget={budget}: is for training; task=test trains nothing")
    checkpoint = value(overrides, "checkpoint")
    folder = Path(os.path.expanduser(checkpoint)).parent.parent if checkpoint else None
    if value(overrides, "task") != "test" or folder is None or not (folder / "run.json").exists():
        return overrides
    _, before = read_config(folder)
    typed = {key(override) for override in overrides}
    kept = [one for one in before if not {key(one), key(one).partition(".")[0]} & typed]
    check_stored_overrides(kept, folder / "overrides.yaml", "if it is meant to be there, type it too")
    return kept + overrides
