"""The overrides typed for a sweep -> its options and its jobs, each composed and given a folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from densenet_cli.config import known_keys
from densenet_cli.config.compose import as_trained, compose, resolved
from densenet_cli.config.errors import explain
from densenet_cli.config.overrides import key, refuse_two_lengths
from densenet_cli.config.trust import Trust, check_stored_overrides
from densenet_cli.config.variants import Variants
from densenet_cli.options import OptionError, UserError, shown, switch
from densenet_cli.record.identity import identity
from densenet_cli.record.sweep_file import SweepFile, UntilDecided, read_sweep, write_sweep
from densenet_cli.sweep import grid
from densenet_cli.sweep.decide import options as decide_options
from densenet_cli.sweep.folders import GROUPS, Folders, job_names, sweep_name

TYPE_AGAIN = "if you want it, type it too, or --config-dir, or the whole command of the sweep again"


@dataclass
class Job:
    """One run of a sweep; "job" is Hydra's word for it.

    Attributes:
        overrides: what one would type to run it alone.
        config: its resolved configuration.
        folder: where it is recorded; it need not exist yet.
    """

    overrides: list[str]
    config: dict[str, Any]
    folder: Path

    @cached_property
    def identity(self) -> str:
        """The identity of its configuration."""
        return identity(self.config)


@dataclass
class Sweep:
    """Jobs with a common folder.

    Attributes:
        folder: the parent of the jobs' folders.
        cfg: the configuration of the sweep as a whole, with Hydra's own section.
        overrides: as typed.
        jobs: in the order of the grid; no two are the same run. With seeds=until_decided, all that may
            be needed.
    """

    folder: Path
    cfg: DictConfig
    overrides: list[str]
    jobs: list[Job]


def compose_sweep(
    overrides: list[str],
    folders: Folders | None = None,
    trust: Trust = Trust(),  # noqa: B008 -- it is frozen
    source: Path | None = None,
) -> Sweep:
    """Compose a sweep and all its jobs; within `composing` only.

    Args:
        overrides: as typed.
        folders: the folders of the sweep, if another command for it was composed before.
        trust: what may be built from a configuration that was read from a folder.
        source: the file the overrides were read from; None if the user typed them.

    Raises:
        UserError: if a job cannot be composed or may not be built, or an option of the sweep is wrong.
    """
    cfg, _ = sweep_options(overrides)
    commands = split_by_experiment(overrides)
    as_typed = [job for command in commands for job in _expanded(command, decide_options.is_asked(cfg))]
    of_jobs = [as_trained(job) for job in as_typed]
    folders = folders or Folders(sweep_folder(cfg))
    if source is not None:
        different = dict.fromkeys(override for job in as_typed for override in job)
        check_stored_overrides(different, source, TYPE_AGAIN)
    variants = Variants()
    jobs: dict[str, Job] = {}
    for name, typed, of_job in zip(job_names(of_jobs), as_typed, of_jobs, strict=True):
        config = compose_job(of_job, grid.search_path(overrides), variants)
        if source is not None or of_job != typed:
            trust.check(config, source or Path(config["checkpoint"]).parent.parent)
        job = Job(of_job, config, folders.find(name, config))
        jobs.setdefault(job.identity, job)
    return Sweep(sweep_folder(cfg), cfg, overrides, list(jobs.values()))


def compose_job(overrides: list[str], search_path: list[str], variants: Variants) -> dict[str, Any]:
    """The resolved configuration of one job; within `composing` only.

    Args:
        overrides: what one would type to run it alone.
        search_path: the overrides that name folders of the user's own choices.
        variants: keeps what the jobs of a sweep share.

    Raises:
        UserError: if they make no configuration.
    """
    try:
        refuse_two_lengths(overrides)
        return {**resolved(variants.compose([*search_path, *overrides])), "next_steps": []}
    except (HydraException, OmegaConfBaseException, UserError) as error:
        message = str(error) if isinstance(error, UserError) else explain(error, overrides)
        raise UserError(f"{message} (in the run {' '.join(overrides)})") from error


def split_by_experiment(overrides: list[str]) -> list[list[str]]:
    """The overrides for each of several experiments: the file of each may describe its own grid."""
    typed = [override for override in overrides if key(override) == "experiment"]
    choices = [choice for one in grid.parse(typed) for choice in grid.values(one)]
    if len(choices) < 2:
        return [overrides]
    return [[choice if one in typed else one for one in overrides] for choice in choices]


def _expanded(overrides: list[str], until_decided: bool) -> list[list[str]]:
    """The overrides of each job; with `until_decided` of all seeds that may be needed."""
    cfg, shared = sweep_options(overrides)
    if decide_options.is_asked(cfg) != until_decided:
        rule = f"is asked for by the file of one experiment; type seeds={decide_options.WORD} for all"
        raise UserError(f"seeds={decide_options.WORD}: {rule}")
    seeds = cfg.sweep.most_seeds if until_decided else cfg.seeds
    lines = OmegaConf.to_container(cfg.sweep, resolve=False)["jobs"]  # type: ignore[index,call-overload]
    if not isinstance(lines, list) or not lines or not all(isinstance(line, str) for line in lines):
        rule = "must be a list of lines, each the overrides of one grid"
        raise OptionError("sweep.jobs", shown(lines), rule, ["model=resnet_20,resnet_32"])
    return grid.expand(lines, shared, seeds)


def sweep_options(overrides: list[str]) -> tuple[DictConfig, list[str]]:
    """The options of a sweep as a whole, its name among them, and the overrides that its jobs share.

    Raises:
        UserError: if one of these options is wrong.
    """
    if any(key(override) == "hydra.run.dir" for override in overrides):
        raise UserError("hydra.run.dir= is for single runs; type sweep.name= to name a sweep's folder")
    varying = grid.swept_keys(grid.job_overrides(overrides))
    choices = [one for one in overrides if key(one) in GROUPS and key(one) not in varying]
    about = [*grid.sweep_overrides(overrides), *choices]
    cfg = compose(about, with_hydra=True)
    if any(key(override) == "sweep" for override in about):
        without = [override for override in about if key(override).partition(".")[0] != "sweep"]
        known_keys.check_sweep_file(cfg, compose(without))
    params = cfg.hydra.sweeper.get("params") or {}
    shared = [f"{name}={value}" for name, value in params.items()] + grid.job_overrides(overrides)
    if cfg.sweep.name is None:
        chosen = {name: str(choice) for name, choice in cfg.hydra.runtime.choices.items() if choice}
        with open_dict(cfg):
            cfg.sweep.name = sweep_name(shared, grid.swept_keys(shared), chosen)
    name = Path(str(cfg.sweep.name))
    if name.is_absolute() or not name.parts or ".." in name.parts:
        raise OptionError("sweep.name", cfg.sweep.name, "must name a folder below outputs/", "growth")
    known_keys.check(OmegaConf.masked_copy(cfg, ["sweep"]))
    fail_fast(cfg)
    if cfg.plan != "json" and not isinstance(cfg.plan, bool):
        raise OptionError("plan", cfg.plan, "must be true or false, or json for a program", True)
    decide_options.check(cfg, shared, is_search(cfg))
    return cfg, shared


def is_search(cfg: DictConfig) -> bool:
    """Whether the sweep is a search (hydra/sweeper=optuna), not a grid."""
    return cfg.hydra.sweeper.get("kind") == "search"


def sweep_folder(cfg: DictConfig) -> Path:
    """The folder of a sweep."""
    return Path(str(cfg.hydra.sweep.dir))


def fail_fast(cfg: DictConfig) -> bool:
    """Whether to stop at the first run that fails. Raises OptionError."""
    return switch("sweep.fail_fast", cfg.sweep.fail_fast)


def check_kind(cfg: DictConfig) -> None:
    """Raise UserError if the folder belongs to a grid and the sweep is a search, or the reverse."""
    folder = sweep_folder(cfg)
    stored = read_sweep(folder)
    if stored.commands and stored.search != is_search(cfg):
        rule = "a grid and a search cannot share a folder; choose another by sweep.name="
        raise UserError(f"{folder}: {rule}")


def save_sweep(sweep: Sweep, until_decided: UntilDecided | None = None) -> None:
    """Add the command and the jobs to sweep.yaml, which keeps those of earlier commands.

    Args:
        sweep: with the jobs that are to be run so far.
        until_decided: with seeds=until_decided, how the settings are compared.

    Raises:
        UserError: as `check_kind`, and if the settings of this folder are compared in another way.
    """
    sweep.folder.mkdir(parents=True, exist_ok=True)
    with FileLock(sweep.folder / ".lock", timeout=60):
        check_kind(sweep.cfg)
        check_design(sweep.folder, until_decided)
        stored = read_sweep(sweep.folder)
        commands, fixed = stored.commands, until_decided or stored.until_decided
        if sweep.overrides not in commands:
            commands = [*commands, sweep.overrides]
        names = _with_names(stored, sweep.jobs)
        write_sweep(sweep.folder, SweepFile(commands, names, is_search(sweep.cfg), fixed))


def check_design(folder: Path, until_decided: UntilDecided | None) -> None:
    """Raise UserError if the settings of a folder are already compared in another way."""
    stored = read_sweep(folder).until_decided
    if until_decided is None or stored is None or stored == until_decided:
        return
    before, now = asdict(stored), asdict(until_decided)
    name = next(name for name in before if before[name] != now[name])
    was = shown([*before[name]] if isinstance(before[name], dict) else before[name])
    raise UserError(
        f"{folder}: was begun with other {name} ({was}) by seeds=until_decided. What decides must not "
        "change once errors are known; choose another folder by sweep.name="
    )


def list_jobs(folder: Path, jobs: list[Job]) -> None:
    """Add jobs that are needed now to sweep.yaml, so that they are shown as to do."""
    with FileLock(folder / ".lock", timeout=60):
        stored = read_sweep(folder)
        write_sweep(folder, replace(stored, jobs=_with_names(stored, jobs)))


def _with_names(stored: SweepFile, jobs: list[Job]) -> list[str]:
    return [*dict.fromkeys([*stored.jobs, *(job.folder.name for job in jobs)])]
