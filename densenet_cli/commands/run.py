"""densenet-run: the words typed -> one call for each run."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from densenet_cli.config import known_keys, resolvers
from densenet_cli.config.compose import (
    CONF,
    as_paths,
    as_trained,
    check_names,
    compose,
    composing,
    key,
    output_folder,
    resolved,
    value,
    without_flags,
)
from densenet_cli.config.errors import explain
from densenet_cli.config.trust import Trust, check_words
from densenet_cli.options import OptionError, UserError
from densenet_cli.plain_text import printable
from densenet_cli.process import ranks
from densenet_cli.process.load_torch import load_lightning
from densenet_cli.process.start import begin
from densenet_cli.process.streams import EndWithReader, drop_what_cannot_be_written
from densenet_cli.record.run_record import Begin, read_config

FULL_ERROR = os.environ.get("HYDRA_FULL_ERROR")  # as the user set it
FLAGS_WITH_VALUE = {"--cfg", "-c", "--package", "-p", "--info", "-i", "--config-dir", "-cd"}
MULTIRUN = {"--multirun", "-m"}
PRINTING = {"--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--info", "-i", "plan=true"}
ABOUT_SWEEPS = ("sweep.", "hydra.sweep", "hydra.launcher", "hydra/sweeper", "hydra/launcher")
KEPT = ("trainer.precision", "trainer.sync_batchnorm")  # whatever device a run is continued on
RESUMABLE = ("trainer", "data.root", "data.num_workers")  # what may change when a run is continued


def main() -> None:
    """densenet-run [key=value ...]: train and test one network; --multirun for many."""
    words = {word if word[0:1] != "-" else word.partition("=")[0] for word in sys.argv[1:]}
    if not words & PRINTING:
        drop_what_cannot_be_written()
        _main()
        return
    with EndWithReader("densenet-run"):
        _main()


def _main() -> None:
    resolvers.register()
    ranks.forget(ranks.RANKS)
    ranks.spin_briefly()
    words = as_paths(_flags_first(sys.argv[1:]))
    try:
        sys.exit(_obey(words))
    except UserError as error:
        _complain(error, str(error))
    except (hydra.errors.HydraException, OmegaConfBaseException) as error:
        _complain(error, explain(error, words))
    except ValueError as error:  # model=5, for one
        _complain(error, f"{' '.join(words)}: {explain(error, words)}")
    except OSError as error:
        folder = error.filename or "the run's folder"
        _complain(error, f"{folder}: cannot be made or written: {error.strerror or error}")
    except KeyboardInterrupt:
        sys.exit(130)


def _obey(words: list[str]) -> int:
    """Do what the words say; the exit status."""
    folder = value(words, "resume")
    words, trust = _trust(words)
    if folder and not (Path(os.path.expanduser(folder)) / "sweep.yaml").exists():
        return _resume(Path(os.path.expanduser(folder)), words, trust)
    if folder or _is_sweep(words):
        return _sweep(words, trust)
    value(words, "hydra.run.dir")
    own, _ = without_flags(words)
    if own:
        check_names(Path(own))
    composed = _flags_first(as_trained(words))
    sys.argv[1:] = composed + _quiet_if_not_first(words)

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
    def task(cfg: DictConfig) -> None:
        _begin(cfg, None if composed == words else trust)

    with _full_error("1"):  # so that Hydra hands its errors to us
        task()
    return 0


def _trust(words: list[str]) -> tuple[list[str], Trust]:
    """The words without trust=, and whom the user trusts."""
    names = value(words, "trust")
    if names and not value(words, "resume") and value(words, "task") != "test":
        rule = "is for resume= and task=test, which read what a folder holds"
        raise UserError(f"trust={names}: {rule}; what you type yourself needs no such word")
    words = [word for word in words if key(word) != "trust"]
    return words, Trust.of(names.split(",") if names else [], words, without_flags(words)[0])


def _begin(cfg: DictConfig, trust: Trust | None) -> None:
    """One run, as Hydra composed it; with `trust`, also of words that were read from a folder."""
    hydra_config = HydraConfig.get()
    if hydra_config.mode == RunMode.MULTIRUN:
        raise UserError("hydra.mode=MULTIRUN: type --multirun instead")
    words = OmegaConf.to_container(hydra_config.overrides.task, resolve=False)
    assert isinstance(words, list)
    folder = output_folder()
    begin: Begin = "either" if ranks.restarted() else "new"
    try:
        with _full_error(FULL_ERROR):
            _refuse_sweep(cfg)
            known_keys.check_hydra(hydra_config)
            config = resolved(cfg)
            if trust is not None:
                trust.check(config, Path(config["checkpoint"]).parent.parent)
            status = _run(folder, config, words, begin)
    except (UserError, OmegaConfBaseException) as error:  # Hydra would add words of its own
        _complain(error, str(error) if isinstance(error, UserError) else explain(error, words))
    if status:
        sys.exit(status)


def _refuse_sweep(cfg: DictConfig) -> None:
    """Raise UserError where a file, as that of an experiment, speaks of several runs."""
    hydra_config = HydraConfig.get()
    groups = hydra_config.runtime.choices
    about: list[tuple[str, Any, Any]] = [
        ("sweep.jobs", list(OmegaConf.select(cfg, "sweep.jobs") or [""]), [""]),
        ("sweep.name", OmegaConf.select(cfg, "sweep.name"), None),
        ("sweep.fail_fast", OmegaConf.select(cfg, "sweep.fail_fast") or False, False),
        ("seeds", cfg.get("seeds"), None),
        ("plan", str(cfg.get("plan") or False).lower(), "false"),
        ("hydra.sweeper.params", dict(hydra_config.sweeper.get("params") or {}), {}),
        *((name, groups.get(name), "basic") for name in ("hydra/sweeper", "hydra/launcher")),
    ]
    for name, chosen, unset in about:
        if chosen != unset:
            raise OptionError(name, chosen, "is for several runs; type --multirun besides")


def _is_sweep(words: list[str]) -> bool:
    """Whether the words are about several runs, and no question to Hydra (--cfg, --help)."""
    flags = {word.partition("=")[0] for word in words if word.startswith("-")}
    if flags - {*MULTIRUN, "--config-dir", "-cd"}:
        return False
    plan = value(words, "plan") or "false"
    return (
        bool(flags & MULTIRUN)
        or plan.lower() != "false"
        or any(value(words, name) is not None for name in ("sweep", "seeds"))
        or any(key(word).startswith(ABOUT_SWEEPS) for word in words)
    )


def _sweep(words: list[str], trust: Trust) -> int:
    if ranks.launched_from_outside():
        raise UserError(
            "--multirun cannot be started by torchrun or srun: type densenet-run --multirun "
            "trainer=ddp, which starts the processes of each job itself"
        )
    from densenet_cli.sweep.multirun import run_sweep

    return run_sweep(words, trust)


def _resume(folder: Path, words: list[str], trust: Trust) -> int:
    """Go on with the run in a folder; the exit status."""
    config, overrides = read_config(folder)
    trust.check(config, folder / "config.yaml")
    others = [word for word in words if not word.startswith("resume=")]
    for word in others:
        if word.startswith("-"):
            raise UserError(f"{word}: resume= is typed alone, without flags")
        if word.startswith("~"):
            raise UserError(f"{word}: nothing can be removed from a run that is continued")
        if key(word) not in RESUMABLE and not key(word).startswith("trainer."):
            rule = f"cannot change when a run is continued; what can is {', '.join(RESUMABLE)}"
            raise UserError(f"{word}: {rule}")
    if others:
        kept = [word for word in overrides if key(word) in KEPT and key(word) not in map(key, others)]
        check_words(kept, folder / "overrides.yaml", "type it besides")
        with composing():
            composed = resolved(compose([*kept, *others]))
        for name in map(key, others):
            section, _, option = name.partition(".")
            if option:
                _take(option, config[section], composed[section])
            else:
                config[section] = {**config[section], **composed[section]}
    return _run(folder, config, overrides, "resume")


def _take(option: str, config: dict[str, Any], composed: dict[str, Any]) -> None:
    """Give an option of a section, which may lie deeper (`strategy.name`), the value composed anew."""
    name, _, rest = option.partition(".")
    if rest and isinstance(config.get(name), dict):
        _take(rest, config[name], composed[name])
    else:
        config[name] = composed[name]


def _run(folder: Path, config: dict[str, Any], overrides: list[str], begin: Begin) -> int:
    from densenet_cli.files.lock import BUSY  # not needed to answer a question

    if ranks.needs_worker(config["trainer"]):
        from densenet_cli.run.supervisor import supervise

        status = supervise(folder, config, overrides, begin)
    else:
        ranks.forget(ranks.NODES)
        load_lightning()  # only here, where a run starts
        from densenet_cli.run.execute import execute

        status = execute(folder, config, overrides, begin)
    return 1 if status == BUSY else status


@contextlib.contextmanager
def _full_error(value: str | None) -> Iterator[None]:
    before = os.environ.pop("HYDRA_FULL_ERROR", None)
    if value is not None:
        os.environ["HYDRA_FULL_ERROR"] = value
    try:
        yield
    finally:
        os.environ.pop("HYDRA_FULL_ERROR", None)
        if before is not None:
            os.environ["HYDRA_FULL_ERROR"] = before


def _quiet_if_not_first(words: list[str]) -> list[str]:
    """Processes that torchrun or srun started: the first alone writes."""
    quiet = ranks.launched_from_outside() and not ranks.is_first_process()
    return ["hydra/hydra_logging=none"] if quiet else []


def _flags_first(words: list[str]) -> list[str]:
    """Flags, with the values that some take, before all other words: Hydra finds them only there."""
    flags, others = [], []
    takes_value = False
    for word in words:
        if word.startswith("-") or (takes_value and "=" not in word):
            flags.append(word)
        else:
            others.append(word)
        takes_value = word in FLAGS_WITH_VALUE
    return flags + others


def _complain(error: Exception, message: str) -> NoReturn:
    if FULL_ERROR == "1":
        raise error
    print(printable(f"densenet-run: {message}", keep="\n"), file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    begin("densenet-run")
    main()
