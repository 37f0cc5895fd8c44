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

from densenet_cli import launch, resolvers, schema
from densenet_cli.complaint import explain
from densenet_cli.options import UserError
from densenet_cli.record import RunRecord, read_config

PACKAGE = Path(__file__).parent
# Inside the package where it was installed from a wheel, beside it in a checkout.
CONF = next((path for path in (PACKAGE / "conf", PACKAGE.parent / "conf") if path.is_dir()), None)
FULL_ERROR = os.environ.get("HYDRA_FULL_ERROR")  # as the user set it
FLAGS_WITH_VALUE = {"--cfg", "-c", "--package", "-p", "--info", "-i", "--config-dir", "-cd"}
RESUMABLE = ("trainer", "data.root", "data.num_workers")  # what may change when a run is continued


class JobFailed(Exception):
    """A job of a sweep failed; its record says why."""


def main() -> None:
    """densenet-run [key=value ...]: train and test one network; --multirun for many."""
    resolvers.register()
    words = _flags_first(sys.argv[1:])
    try:
        if folder := _value(words, "resume"):
            sys.exit(_resume(Path(folder).expanduser(), words))
        _value(words, "hydra.run.dir")
        sys.argv[1:] = _as_trained(words) + _quiet_if_not_first(words)
        _run_hydra()
    except UserError as error:
        _complain(error, str(error))
    except JobFailed as error:
        _complain(error, f"at least one job failed, first {error}")
    except (hydra.errors.HydraException, OmegaConfBaseException) as error:
        _complain(error, explain(error, words))
    except ValueError as error:  # model=5, for one
        _complain(error, f"{' '.join(words)}: {explain(error, words)}")
    except OSError as error:
        folder = error.filename or "the run's folder"
        _complain(error, f"{folder}: cannot be made or written: {error.strerror or error}")
    except KeyboardInterrupt:
        sys.exit(130)


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def _hydra_main(cfg: DictConfig) -> None:
    """One job, as Hydra composed it."""
    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    words = OmegaConf.to_container(hydra_config.overrides.task, resolve=False)
    assert isinstance(words, list)
    is_sweep = hydra_config.mode == RunMode.MULTIRUN
    try:
        with _full_error(FULL_ERROR):
            status = _start(folder, _resolved(cfg), words)
    except (UserError, OmegaConfBaseException) as error:
        message = str(error) if isinstance(error, UserError) else explain(error, words)
        if is_sweep:
            raise JobFailed(message) from error
        _complain(error, message)
    if status == 1 and is_sweep:
        raise JobFailed(f"{folder}: {RunRecord.read(folder).fields.get('error')}")
    if status:
        sys.exit(status)


def _run_hydra() -> None:
    """Let Hydra run the jobs, but hand its errors to us: with HYDRA_FULL_ERROR it raises them."""
    with _full_error("1"):
        _hydra_main()


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


def _start(folder: Path, config: dict[str, Any], overrides: list[str]) -> int:
    """Begin a run in a new folder; the exit status."""
    resume = False
    if (folder / "run.json").exists() and (launch.restarted() or launch.is_first_process()):
        state = RunRecord.read(folder).fields["state"]
        resume = launch.restarted() and state != "done"
        if not resume:
            raise UserError(
                f"{folder} holds a run already ({state}); go on with it by resume={folder}, "
                "or choose another folder by hydra.run.dir= (in a sweep hydra.sweep.dir=)"
            )
    return _run(folder, config, overrides, resume)


def _resume(folder: Path, words: list[str]) -> int:
    """Go on with the run in a folder; the exit status."""
    config, overrides = read_config(folder)
    others = [word for word in words if not word.startswith("resume=")]
    for word in others:
        if word.startswith("-"):
            raise UserError(f"{word}: resume= is typed alone, without flags")
        if _key(word) not in RESUMABLE and not _key(word).startswith("trainer."):
            rule = f"cannot change when a run is continued; what can is {', '.join(RESUMABLE)}"
            raise UserError(f"{word}: {rule}")
    if others:
        composed = _compose(others)
        for key in map(_key, others):
            section, _, name = key.partition(".")
            if name:
                config[section][name] = composed[section][name]
            else:
                config[section] = {**config[section], **composed[section]}
    return _run(folder, config, overrides, resume=True)


def _run(folder: Path, config: dict[str, Any], overrides: list[str], resume: bool) -> int:
    if launch.needs_worker(config["trainer"]):
        return launch.supervise(folder, config, overrides, resume)
    from densenet_cli.run import execute  # torch loads only when a run starts

    return execute(folder, config, overrides, resume)


def _compose(words: list[str]) -> dict[str, Any]:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return _resolved(hydra.compose("config", overrides=words))


def _resolved(cfg: DictConfig) -> dict[str, Any]:
    config = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    schema.check(config)
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}


def _as_trained(words: list[str]) -> list[str]:
    """For task=test: the words that the checkpoint's run was typed with, then those typed now."""
    checkpoint = _value(words, "checkpoint")
    folder = Path(checkpoint).parent.parent if checkpoint else None
    if _value(words, "task") != "test" or folder is None or not (folder / "run.json").exists():
        return words
    _, overrides = read_config(folder)
    typed = {_key(word) for word in words}
    kept = [word for word in overrides if not {_key(word), _key(word).partition(".")[0]} & typed]
    return kept + words


def _key(word: str) -> str:
    return word.lstrip("+~").partition("=")[0]


def _quiet_if_not_first(words: list[str]) -> list[str]:
    """Processes that torchrun or srun started: the first alone writes; none may sweep."""
    if not launch.launched_from_outside():
        return []
    if {"--multirun", "-m"} & set(words):
        raise UserError(
            "--multirun cannot be started by torchrun or srun: type densenet-run --multirun "
            "trainer=ddp, which starts the processes of each job itself"
        )
    return [] if launch.is_first_process() else ["hydra/hydra_logging=none"]


def _value(words: list[str], key: str) -> str | None:
    """The value typed for a key, unless it is null. Raises UserError if it is empty."""
    values = [word.partition("=")[2].strip("'\"") for word in words if _key(word) == key]
    if "" in values:
        raise UserError(f"{key}=: has no value")
    return values[-1] if values and values[-1] != "null" else None


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
    print(f"densenet-run: {message}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    main()
