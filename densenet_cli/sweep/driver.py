"""densenet-run --multirun: a sweep is read, planned or run, and shown."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from omegaconf import DictConfig

from densenet_cli.config.compose import composing, key, quoted, value, without_flags
from densenet_cli.config.trust import Trust, check_words
from densenet_cli.options import UserError, nearest
from densenet_cli.plain_text import printable
from densenet_cli.record.identity import WITHOUT_EFFECT
from densenet_cli.record.sweep_file import FILE, read_sweep
from densenet_cli.run.summary import relative
from densenet_cli.sweep import job_table as table
from densenet_cli.sweep import jobs, launchers, slots
from densenet_cli.sweep.folders import Folders
from densenet_cli.sweep.jobs import Sweep
from densenet_cli.sweep.runner import Runner
from densenet_cli.sweep.standing import Standing

SEARCH = "densenet_cli.sweep.search"  # hydra/sweeper=optuna
# What a sweep reads of Hydra's own section; its launcher plugins read more.
OF_HYDRA = {
    "hydra": ["searchpath", "launcher", "sweeper", "sweep"],
    "hydra.sweep": ["dir"],
    "hydra.launcher": ["_target_", "jobs"],
    "hydra.sweeper": ["_target_", "params", "trials", "sampler", "seed"],
}


def run(words: list[str], trust: Trust) -> int:
    """Run, or with plan=true only show, the sweep that words make; the exit status.

    Args:
        words: as typed.
        trust: what folders that are read may name.
    """
    config_dir, typed = without_flags(words)
    with composing(config_dir) as own:
        folder = value(typed, "resume")
        commands = _resumed(Path(os.path.expanduser(folder)), typed, own) if folder else [typed]
        commands = [[*own, *command] for command in commands]
        file = Path(os.path.expanduser(folder)) / FILE if folder else None
        cfg, _ = jobs.options(commands[-1])
        _check_hydra(commands[-1], cfg)
        if cfg.hydra.sweeper._target_ == SEARCH:
            from densenet_cli.sweep import search

            return search.run(commands[-1], trust, file)
        folders = Folders(jobs.folder(cfg))
        sweep = _united([jobs.read(command, folders, trust, file) for command in commands])
        folders.say_what_is_left()
        if sweep.cfg.plan:
            from densenet_cli.sweep.plan import plan

            return plan.show(sweep)
        if not folder:
            jobs.note(sweep)
        return _run(sweep)


def _check_hydra(words: list[str], cfg: DictConfig) -> None:
    """Raise UserError for an option of Hydra's that no sweep reads."""
    if launchers.wanted(cfg):
        return
    chosen = [f"hydra.launcher.{name}" for name in cfg.hydra.launcher]
    for name in dict.fromkeys([*(key(word).replace("/", ".") for word in words), *chosen]):
        section, _, option = name.rpartition(".")
        is_hydras = name.startswith("hydra.") and not name.startswith("hydra.sweeper.params.")
        if is_hydras and option not in (names := OF_HYDRA.get(section, [])):
            near = nearest(option, names)
            hint = f"; did you mean {section}.{near}?" if near else ""
            raise UserError(f"{name}: nothing reads such an option in a sweep{hint}")


def _run(sweep: Sweep) -> int:
    state = Standing(sweep.jobs)
    before = state.count("done before")
    already = f", {before} of them done already" if before else ""
    _say(f"{len(sweep.jobs)} jobs in {relative(sweep.folder)}{already}")
    if launchers.wanted(sweep.cfg):
        signalled = launchers.launch(sweep, state.left())
        for job in state.left():
            state.look(job)
    else:
        trainers = [job.config["trainer"] for job in sweep.jobs]
        where = slots.shared_out(sweep.cfg, trainers, sweep.folder)
        runner = Runner(state, where, jobs.fail_fast(sweep.cfg))
        runner.run()
        signalled = runner.signalled
    table.show(sweep.folder, state, sweep.cfg.hydra.searchpath)
    return 128 + signalled if signalled else state.exit_status()


def _resumed(folder: Path, typed: list[str], own: list[str]) -> list[list[str]]:
    """The commands that were typed for a sweep's folder, each with the words typed now."""
    others = [word for word in typed if key(word) != "resume"]
    for word in others:
        name = key(word)
        may_change = {*WITHOUT_EFFECT, "hydra/launcher", "sweep.fail_fast", "plan"} - {"data.root"}
        if name not in may_change and not name.startswith("hydra.launcher."):
            rule = "cannot change when a sweep is continued: its jobs would be others"
            raise UserError(f"{word}: {rule}; type it with --multirun and sweep.name={folder.name}")
    commands, _ = read_sweep(folder)
    if not commands:
        raise UserError(f"{folder / FILE} names no command, so that there is nothing to go on with")
    now = {key(word) for word in [*own, *others]}
    kept = [[word for word in command if key(word) not in now] for command in commands]
    for command in kept:
        check_words(command, folder / FILE, jobs.AGAIN)
    here = f"hydra.sweep.dir={quoted(str(folder))}"
    return [[*command, here, *others] for command in kept]


def _united(sweeps: list[Sweep]) -> Sweep:
    known = {job.identity: job for sweep in sweeps for job in sweep.jobs}
    last = sweeps[-1]
    return Sweep(last.folder, last.cfg, last.words, list(known.values()))


def _say(message: str) -> None:
    print(f"densenet-run: {printable(message)}", file=sys.stderr, flush=True)
