"""densenet-run --multirun: compose a sweep; plan, run or search it; print the results."""

from __future__ import annotations

import os
from pathlib import Path

from omegaconf import DictConfig

from densenet_cli.config.compose import composing
from densenet_cli.config.overrides import key, quoted, value
from densenet_cli.config.trust import Trust, check_stored_overrides
from densenet_cli.options import OptionError, UserError, nearest
from densenet_cli.plain_text import counted
from densenet_cli.process.streams import say
from densenet_cli.record.identity import WITHOUT_EFFECT
from densenet_cli.record.sweep_file import SWEEP_FILE, read_sweep
from densenet_cli.run.summary import relative
from densenet_cli.sweep import jobs, launchers, slots
from densenet_cli.sweep.decide.options import is_asked
from densenet_cli.sweep.folders import Folders
from densenet_cli.sweep.jobs import Sweep, compose_sweep, is_search, sweep_folder, sweep_options
from densenet_cli.sweep.runner import Runner
from densenet_cli.sweep.status import SweepStatus

# The options of Hydra's own section that a sweep reads; its launcher plugins read more.
HYDRA_OPTIONS = {
    "hydra": ["searchpath", "launcher", "sweeper", "sweep"],
    "hydra.sweep": ["dir"],
    "hydra.launcher": ["jobs"],
    "hydra.sweeper": ["params", "trials", "sampler", "seed"],
    "hydra.sweeper.pruners.median": ["startup_trials", "first_epoch", "every"],
    "hydra.sweeper.pruners.successive_halving": ["first_epoch", "reduction_factor"],
    "hydra.sweeper.pruners.hyperband": ["first_epoch", "reduction_factor"],
}
# What may be typed beside resume=FOLDER, and hydra.launcher.*: none of it makes another run.
RESUMABLE = {*WITHOUT_EFFECT, "hydra/launcher", "sweep.fail_fast", "plan"} - {"data.root"}


def run_sweep(overrides: list[str], config_dir: str | None, trust: Trust) -> int:
    """Run the sweep that the command line describes, or with plan=true only print its plan.

    Args:
        overrides: as typed.
        config_dir: a folder with configuration files of the user's own.
        trust: what may be built from a configuration that was read from a folder.

    Returns:
        The exit status.
    """
    with composing(config_dir) as own:
        resumed = value(overrides, "resume")
        folder = Path(os.path.expanduser(resumed)) if resumed else None
        commands = [overrides] if folder is None else _stored_commands(folder, overrides, own)
        commands = [[*own, *command] for command in commands]
        source = None if folder is None else folder / SWEEP_FILE
        cfg, _ = sweep_options(commands[-1])
        _check_hydra_options(commands[-1], cfg)
        if is_search(cfg):
            from densenet_cli.sweep.search import run_search

            return run_search(commands[-1], trust, source)
        if cfg.sweep.pruner is not None:
            rule = "is for a search; type hydra/sweeper=optuna too, and what is searched"
            raise OptionError("sweep.pruner", cfg.sweep.pruner, rule)
        folders = Folders(sweep_folder(cfg))
        sweeps = [compose_sweep(command, folders, trust, source) for command in commands]
        folders.report_other_images()
        if deciding := [sweep for sweep in sweeps if is_asked(sweep.cfg)]:
            from densenet_cli.sweep.decide.runner import run_until_decided

            of_grids = [job for sweep in sweeps if sweep not in deciding for job in sweep.jobs]
            return run_until_decided(deciding[-1], of_grids, is_new=folder is None)
        sweep = _merged(sweeps)
        if sweep.cfg.plan:
            from densenet_cli.sweep.plan.plan import show_plan

            return show_plan(sweep)
        if folder is None:
            jobs.save_sweep(sweep)
        return _run_jobs(sweep)


def _check_hydra_options(overrides: list[str], cfg: DictConfig) -> None:
    """Raise UserError for an option of Hydra's section that no sweep reads."""
    if launchers.uses_plugin(cfg):
        return
    names = [key(override).replace("/", ".") for override in overrides]
    names += [
        f"hydra.launcher.{name}" for name in cfg.hydra.launcher if name not in ("_target_", "kind")
    ]
    for name in dict.fromkeys(names):
        section, _, option = name.rpartition(".")
        if not name.startswith("hydra.") or name.startswith("hydra.sweeper.params."):
            continue
        if option not in (known := HYDRA_OPTIONS.get(section, [])):
            near = nearest(option, known)
            hint = f"; did you mean {section}.{near}?" if near else ""
            raise UserError(f"{name}: a sweep has no such option{hint}")


def _run_jobs(sweep: Sweep) -> int:
    """Run what is not done yet, and print the results; the exit status."""
    status = SweepStatus(sweep.jobs)
    done = status.count("done before")
    already = f", {done} of them already done" if done else ""
    say(f"{counted(len(sweep.jobs), 'run')} in {relative(sweep.folder)}{already}")
    if launchers.uses_plugin(sweep.cfg):
        signal_number = launchers.launch(sweep, status.unfinished())
        for job in status.unfinished():
            status.reread(job)
    else:
        trainers = [job.config["trainer"] for job in sweep.jobs]
        places = slots.worker_places(sweep.cfg, trainers, sweep.folder)
        runner = Runner(status, places, jobs.fail_fast(sweep.cfg))
        runner.run()
        signal_number = runner.signal_number
    status.print_table(sweep.folder, sweep.cfg.hydra.searchpath)
    return 128 + signal_number if signal_number else status.exit_status()


def _stored_commands(folder: Path, typed: list[str], own: list[str]) -> list[list[str]]:
    """The commands that were typed for a sweep's folder, each with the overrides typed now."""
    others = [override for override in typed if key(override) != "resume"]
    for override in others:
        if key(override) not in RESUMABLE and not key(override).startswith("hydra.launcher."):
            rule = "cannot change when a sweep is resumed, since its runs would be others"
            raise UserError(f"{override}: {rule}; type it with --multirun and sweep.name={folder.name}")
    commands = read_sweep(folder).commands
    if not commands:
        raise UserError(f"{folder / SWEEP_FILE} contains no command: there is nothing to resume")
    now = {key(override) for override in [*own, *others]}
    kept = [[override for override in command if key(override) not in now] for command in commands]
    for command in kept:
        check_stored_overrides(command, folder / SWEEP_FILE, jobs.TYPE_AGAIN)
    here = f"hydra.sweep.dir={quoted(str(folder))}"
    return [[*command, here, *others] for command in kept]


def _merged(sweeps: list[Sweep]) -> Sweep:
    """One sweep with the jobs of all, each run once; its options are those of the last."""
    merged = {job.identity: job for sweep in sweeps for job in sweep.jobs}
    last = sweeps[-1]
    return Sweep(last.folder, last.cfg, last.overrides, list(merged.values()))
