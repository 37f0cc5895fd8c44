"""A sweep: the words typed -> its options and its jobs, each composed and given a folder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from densenet_cli.config import known_keys
from densenet_cli.config.compose import as_trained, compose, key, resolved
from densenet_cli.config.errors import explain
from densenet_cli.config.trust import Trust, check_words
from densenet_cli.files.atomic_file import remove_partials, replace_file
from densenet_cli.options import OptionError, UserError, shown, switch
from densenet_cli.record.identity import identity
from densenet_cli.record.sweep_file import FILE, read_sweep
from densenet_cli.sweep import grid
from densenet_cli.sweep.folders import GROUPS, Folders, job_names, sweep_name

AGAIN = "where it is meant so, type it besides, or --config-dir, or the sweep's own command again"


@dataclass
class Job:
    """One run of a sweep.

    Attributes:
        words: what one would type for it alone.
        config: its resolved configuration.
        folder: where it is recorded; perhaps not made yet.
    """

    words: list[str]
    config: dict[str, Any]
    folder: Path

    @cached_property
    def identity(self) -> str:
        """What it is a run of."""
        return identity(self.config)


@dataclass
class Sweep:
    """Jobs with a common folder.

    Attributes:
        folder: theirs lie in it.
        cfg: the configuration of the sweep as a whole, with Hydra's own section.
        words: what was typed.
        jobs: in the order of the grid; no two are the same run.
    """

    folder: Path
    cfg: DictConfig
    words: list[str]
    jobs: list[Job]


def read(
    words: list[str],
    folders: Folders | None = None,
    trust: Trust = Trust(),  # noqa: B008 -- it is frozen
    file: Path | None = None,
) -> Sweep:
    """The sweep that words make; within `composing` only.

    Args:
        words: as typed.
        folders: those of the sweep, if other words for it have been read before.
        trust: what folders that are read may name.
        file: where the words were read from; None: the user has typed them.

    Raises:
        UserError: if a job can't be composed or may not be built, or an option of the sweep is wrong.
    """
    cfg, _ = options(words)
    expanded = [job for its_words in by_experiment(words) for job in _expanded(its_words)]
    words_of_jobs = [as_trained(job) for job in expanded]
    folders, names = folders or Folders(folder(cfg)), job_names(words_of_jobs)
    jobs: dict[str, Job] = {}
    for name, job, its_own in zip(names, words_of_jobs, expanded, strict=True):
        if file is not None:
            check_words(its_own, file, AGAIN)
        config = composed(job, grid.search_path(words))
        if file is not None or job != its_own:
            trust.check(config, file or Path(config["checkpoint"]).parent.parent)
        one = Job(job, config, folders.place(name, config))
        jobs.setdefault(one.identity, one)
    return Sweep(folder(cfg), cfg, words, list(jobs.values()))


def by_experiment(words: list[str]) -> list[list[str]]:
    """The words for each experiment typed; the file of each may say how it is swept."""
    typed = [word for word in words if key(word) == "experiment"]
    choices = [choice for override in grid.parse(typed) for choice in grid.choices(override)]
    if len(choices) < 2:
        return [words]
    return [[choice if word in typed else word for word in words] for choice in choices]


def _expanded(words: list[str]) -> list[list[str]]:
    """The words of each job."""
    cfg, typed = options(words)
    lines = OmegaConf.to_container(cfg.sweep, resolve=False)["jobs"]  # type: ignore[index,call-overload]
    if not isinstance(lines, list) or not lines or not all(isinstance(line, str) for line in lines):
        rule = "must be a list of lines, each the words of one grid"
        raise OptionError("sweep.jobs", shown(lines), rule, ["model=resnet_20,resnet_32"])
    return grid.expand(lines, typed, cfg.seeds)


def options(words: list[str]) -> tuple[DictConfig, list[str]]:
    """The configuration of a sweep as a whole, named; and the words that all its jobs share."""
    if any(key(word) == "hydra.run.dir" for word in words):
        raise UserError("hydra.run.dir= is for single runs; a sweep's folder is named by sweep.name=")
    varying = grid.swept(grid.job_words(words))
    choices = [word for word in words if key(word) in GROUPS and key(word) not in varying]
    about = [*grid.sweep_words(words), *choices]
    cfg = compose(about, with_hydra=True)
    if any(key(word) == "sweep" for word in about):
        known_keys.check_sweep_file(
            cfg, compose([word for word in about if key(word).partition(".")[0] != "sweep"])
        )
    params = cfg.hydra.sweeper.get("params") or {}
    typed = [f"{name}={value}" for name, value in params.items()] + grid.job_words(words)
    if cfg.sweep.name is None:
        chosen = {name: str(choice) for name, choice in cfg.hydra.runtime.choices.items() if choice}
        with open_dict(cfg):
            cfg.sweep.name = sweep_name(typed, grid.swept(typed), chosen)
    name = Path(str(cfg.sweep.name))
    if name.is_absolute() or not name.parts or ".." in name.parts:
        raise OptionError("sweep.name", cfg.sweep.name, "must name a folder below outputs/", "growth")
    known_keys.check(OmegaConf.masked_copy(cfg, ["sweep"]))
    fail_fast(cfg)
    switch("plan", cfg.plan)
    return cfg, typed


def note(sweep: Sweep) -> None:
    """Write down in the sweep's folder what was typed, beside what was typed for it before."""
    sweep.folder.mkdir(parents=True, exist_ok=True)
    with FileLock(sweep.folder / ".lock", timeout=60):
        remove_partials(sweep.folder / FILE)
        commands, names = read_sweep(sweep.folder)
        if any(grid.is_search(command) != grid.is_search(sweep.words) for command in commands):
            rule = "a grid and a search do not share a folder; choose another by sweep.name="
            raise UserError(f"{sweep.folder}: {rule}")
        if sweep.words not in commands:
            commands.append(sweep.words)
        names += [job.folder.name for job in sweep.jobs if job.folder.name not in names]
        content = {"commands": commands, "jobs": names}
        replace_file(sweep.folder / FILE, yaml.safe_dump(content, sort_keys=False))


def folder(cfg: DictConfig) -> Path:
    """The folder of a sweep whose configuration has a name."""
    return Path(str(cfg.hydra.sweep.dir))


def fail_fast(cfg: DictConfig) -> bool:
    """Whether to stop at the first run that fails. Raises OptionError."""
    return switch("sweep.fail_fast", cfg.sweep.fail_fast)


def composed(words: list[str], search_path: list[str]) -> dict[str, Any]:
    """The configuration of one job; within `composing` only.

    Args:
        words: what one would type for it alone.
        search_path: the words that say where choices of the user's own lie.

    Raises:
        UserError: if the words make none.
    """
    try:
        return {**resolved(compose([*search_path, *words])), "next_steps": []}
    except (HydraException, OmegaConfBaseException, UserError) as error:
        message = str(error) if isinstance(error, UserError) else explain(error, words)
        raise UserError(f"{message} (in the job: {' '.join(words)})") from error
