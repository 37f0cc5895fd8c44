"""densenet-run: what is typed -> one call: a run, a resumed run, a sweep, or an answer."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from densenet_cli.commands.ending import errors_as_messages
from densenet_cli.config import known_keys, resolvers
from densenet_cli.config.compose import CONF, VERSION_BASE, as_trained, compose, composing, resolved
from densenet_cli.config.errors import explain
from densenet_cli.config.overrides import (
    IMAGE_PLACES,
    key,
    refuse_empty,
    refuse_two_lengths,
    value,
    with_quoted_paths,
)
from densenet_cli.config.trust import Trust, check_stored_overrides
from densenet_cli.options import OptionError, UserError
from densenet_cli.plain_text import Parser
from densenet_cli.process import ranks
from densenet_cli.process.load_torch import load_lightning
from densenet_cli.process.start import begin
from densenet_cli.process.streams import EndWithReader, drop_what_cannot_be_written
from densenet_cli.record.identity import identity
from densenet_cli.record.run_record import Begin, read_config
from densenet_cli.sweep import grid

COMMAND = "densenet-run"
OF_HYDRA = {"--hydra-help", "--info", "-i", "--shell-completion", "-sc"}  # flags that Hydra answers
ABOUT_SWEEPS = ("sweep.", "hydra.sweep", "hydra.launcher", "hydra/sweeper", "hydra/launcher")
KEPT = ("trainer.precision", "trainer.sync_batchnorm")  # by a resumed run, whatever its new device
# What may change when a run is resumed. Not all data sets have these options.
OF_PHOTOS = ("data.check", "data.max_pixels", "data.skip_broken", "data.pack")
OF_DATA = (*IMAGE_PLACES, "data.num_workers", *OF_PHOTOS)
RESUMABLE = ("trainer", *OF_DATA)


def main() -> None:
    """densenet-run [key=value ...]: train and test one network; --multirun for many."""
    resolvers.register()
    if OF_HYDRA & {word.partition("=")[0] for word in sys.argv[1:]}:
        with EndWithReader(COMMAND):
            hydra.main(config_path=str(CONF), config_name="config", **VERSION_BASE)(lambda cfg: None)()
        return
    parser = _parser()
    typed, unknown = parser.parse_known_intermixed_args()
    if unknown:
        hint = "options are typed without dashes, as epochs=10"
        parser.error(f"unrecognized arguments: {' '.join(unknown)}; {hint}")
    overrides = with_quoted_paths(typed.overrides)
    with errors_as_messages(COMMAND, lambda error: explain(error, overrides)):
        if typed.help or typed.cfg or _plans(overrides):
            with EndWithReader(COMMAND):
                sys.exit(_obey(typed, overrides))
        drop_what_cannot_be_written()
        sys.exit(_obey(typed, overrides))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        COMMAND, usage="%(prog)s [key=value ...] [--multirun]", add_help=False, allow_abbrev=False
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--help", "-h", action="store_true")
    parser.add_argument("--version", action="version", version=f"densenet-cli {_version()}")
    parser.add_argument("--config-dir", "-cd", metavar="FOLDER")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--multirun", "-m", action="store_true")
    kind.add_argument("--cfg", "-c", choices=["job", "hydra", "all"])
    parser.add_argument("--package", "-p", metavar="SECTION")
    parser.add_argument("--resolve", action="store_true")
    return parser


def _version() -> str:
    try:
        return metadata.version("densenet-cli")
    except metadata.PackageNotFoundError:  # run from a checkout, by PYTHONPATH
        return "(not installed)"


def _obey(typed: argparse.Namespace, overrides: list[str]) -> int:
    """Do what was typed; the exit status."""
    if typed.help or typed.cfg:
        from densenet_cli.commands import run_help

        with composing(typed.config_dir) as own:
            if typed.help:
                print(run_help.text(typed.config_dir, [*own, *overrides]))
            else:
                run_help.show_configuration(typed, [*own, *overrides])
        return 0
    ranks.forget(ranks.RANKS)
    ranks.spin_briefly()
    folder = value(overrides, "resume")
    overrides, trust = _trusted(typed, overrides)
    if folder and not (Path(os.path.expanduser(folder)) / "sweep.yaml").exists():
        if typed.multirun or typed.config_dir:
            raise UserError(f"resume={folder}: a run is resumed without --multirun and --config-dir")
        return _resume(Path(os.path.expanduser(folder)), overrides, trust)
    if folder or typed.multirun or _are_of_sweep(overrides):
        return _sweep(overrides, typed.config_dir, trust)
    return _run(overrides, typed.config_dir, trust)


def _trusted(typed: argparse.Namespace, overrides: list[str]) -> tuple[list[str], Trust]:
    """The overrides without trust=, and what the user trusts."""
    names = value(overrides, "trust")
    if names and not value(overrides, "resume") and value(overrides, "task") != "test":
        rule = "only resume= and task=test read it; what you type yourself needs no trust="
        raise UserError(f"trust={names}: {rule}")
    others = [override for override in overrides if key(override) != "trust"]
    return others, Trust.of(names.split(",") if names else [], others, typed.config_dir)


def _run(overrides: list[str], config_dir: str | None, trust: Trust) -> int:
    """Train or test one network; the exit status."""
    refuse_empty(overrides, "hydra.run.dir")
    known_keys.check_hydra(overrides)
    composed = as_trained(overrides)
    refuse_two_lengths(composed)
    with composing(config_dir) as own:
        for name in grid.swept_keys(composed):
            hint = f"type --multirun too, or {name}=[...] for a list"
            raise UserError(f"{name}: has several values, which make several runs; {hint}")
        cfg = compose([*own, *composed], with_hydra=True)
    known_keys.check_single_run(cfg)
    folder = Path(os.path.abspath(str(cfg.hydra.run.dir)))
    OmegaConf.update(cfg, "hydra.runtime.output_dir", str(folder))
    HydraConfig.instance().set_config(cfg)  # for ${hydra:runtime.cwd} and the like
    config = resolved(OmegaConf.masked_copy(cfg, [str(name) for name in cfg if name != "hydra"]))
    if composed != overrides:  # some of them were read from a folder
        trust.check(config, Path(config["checkpoint"]).parent.parent)
    recorded = OmegaConf.to_container(cfg.hydra.overrides.task, resolve=False)
    assert isinstance(recorded, list)
    folder.mkdir(parents=True, exist_ok=True)
    return _start(folder, config, recorded, "either" if ranks.restarted() else "new")


def _plans(overrides: list[str]) -> bool:
    plans = ("true", "json")
    return any(key(one) == "plan" and one.partition("=")[2].lower() in plans for one in overrides)


def _are_of_sweep(overrides: list[str]) -> bool:
    """Whether the overrides make several runs, so that --multirun need not be typed."""
    plan = value(overrides, "plan") or "false"
    return (
        plan.lower() != "false"
        or any(value(overrides, name) is not None for name in ("sweep", "seeds"))
        or any(key(override).startswith(ABOUT_SWEEPS) for override in overrides)
    )


def _sweep(overrides: list[str], config_dir: str | None, trust: Trust) -> int:
    if ranks.launched_from_outside():
        raise UserError(
            "--multirun cannot be started by torchrun or srun: type densenet-run --multirun "
            "trainer=ddp, which starts the processes of each run itself"
        )
    from densenet_cli.sweep.multirun import run_sweep

    return run_sweep(overrides, config_dir, trust)


def _resume(folder: Path, overrides: list[str], trust: Trust) -> int:
    """Resume the run in a folder; the exit status."""
    try:
        config, before = read_config(folder)
    except UserError as error:
        raise UserError(f"resume={error}") from error
    trust.check(config, folder / "config.yaml")
    changes = [override for override in overrides if key(override) != "resume"]
    for override in changes:
        if override.startswith("~"):
            raise UserError(f"{override}: nothing can be removed from a run that is resumed")
        if key(override) not in RESUMABLE and not key(override).startswith("trainer."):
            rule = f"cannot change when a run is resumed; what can is {', '.join(RESUMABLE)}"
            raise UserError(f"{override}: {rule}")
    if changes:
        kept = [one for one in before if key(one) in KEPT and key(one) not in map(key, changes)]
        check_stored_overrides(
            kept, folder / "overrides.yaml", "if it is meant to be there, type it too"
        )
        with composing():
            # ++: the run's data set may have options that the default one has not
            added = [f"++{one.lstrip('+')}" if key(one) in OF_DATA else one for one in changes]
            composed = resolved(compose([*kept, *added]))
        pack = config["data"].get("pack")
        for name in map(key, changes):
            section, _, option = name.partition(".")
            if option:
                _set(option, config[section], composed[section])
            else:
                config[section] = {**config[section], **composed[section]}
        if identity({**config, "data": {**config["data"], "pack": pack}}) != identity(config):
            rule = "would change the images of the run that is resumed; leave it out"
            raise OptionError("data.pack", config["data"]["pack"], rule)
    return _start(folder, config, before, "resume")


def _set(option: str, config: dict[str, Any], composed: dict[str, Any]) -> None:
    """Set one option of a section, such as `precision` or `strategy.name`, to its new value."""
    name, _, rest = option.partition(".")
    if rest and isinstance(config.get(name), dict):
        _set(rest, config[name], composed[name])
    else:
        config[name] = composed[name]


def _start(folder: Path, config: dict[str, Any], overrides: list[str], begin: Begin) -> int:
    """Start a run in this process, or in processes of its own; the exit status."""
    from densenet_cli.files.lock import BUSY  # not needed to answer a question

    if ranks.needs_worker(config["trainer"]):
        from densenet_cli.run.supervisor import supervise

        status = supervise(folder, config, overrides, begin)
    else:
        ranks.forget(ranks.NODES)
        load_lightning()  # only here, where a run starts
        from densenet_cli.run.execute import execute
        from densenet_cli.run.other_processes import end

        status = execute(folder, config, overrides, begin)
        if status and ranks.launched_from_outside():
            end(1 if status == BUSY else status)
    return 1 if status == BUSY else status


if __name__ == "__main__":
    begin(COMMAND)
    main()
