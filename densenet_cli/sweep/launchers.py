"""Hydra's launcher plugins (joblib, submitit, ray): the jobs of a sweep run where they say."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from densenet_cli.config import resolvers
from densenet_cli.config.compose import compose, output_folder, quoted, resolved
from densenet_cli.options import UserError
from densenet_cli.process.streams import drop_what_cannot_be_written
from densenet_cli.run.supervisor import supervise
from densenet_cli.sweep import grid, lifeline
from densenet_cli.sweep.jobs import Job, Sweep

OURS = ("densenet_cli.", "hydra._internal.core_plugins.basic_launcher.")


def wanted(cfg: DictConfig) -> bool:
    """Whether the jobs are launched by a plugin."""
    return not str(cfg.hydra.launcher._target_).startswith(OURS)


def launch(sweep: Sweep, jobs: list[Job]) -> int:
    """Hand the jobs to the launcher that hydra/launcher= names, and wait for it.

    A signal ends those that run on this machine, and those that wait; but not those of SLURM.

    Returns:
        The number of that signal; 0 if none came.

    Raises:
        UserError: if the launcher itself fails, as where there is no SLURM.
    """
    if not jobs:
        return 0
    folder = sweep.folder.resolve()
    words = [word for word in grid.sweep_words(sweep.words) if not word.startswith("hydra.sweep.dir")]
    cfg = compose([*words, f"hydra.sweep.dir={quoted(str(folder))}"], with_hydra=True)
    loader = GlobalHydra.instance().config_loader()
    context = HydraContext(config_loader=loader, callbacks=Callbacks(cfg))
    overrides = [[*job.words, f"hydra.sweep.subdir={quoted(job.folder.name)}"] for job in jobs]
    name = str(cfg.hydra.launcher._target_).rpartition(".")[2]
    try:
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=context, task_function=functools.partial(task, os.getcwd()), config=cfg
        )
        with _safe_path(folder), contextlib.nullcontext() if "Slurm" in name else lifeline.held():
            launcher.launch(overrides, initial_job_idx=0)
        return 0
    except lifeline.Stopped as signalled:
        return signalled.number
    except Exception as error:
        raise UserError(f"hydra/launcher ({name}): {type(error).__name__}: {error}") from error


@contextlib.contextmanager
def _safe_path(folder: Path) -> Iterator[None]:
    """Within, no file of the working folder is taken for a module in the processes of a launcher.

    Launchers start them by `python -m`, which searches the folder that they begin in first. Python
    3.11 can be told not to; for an older one they begin in `folder`, which holds no modules.
    """
    before = os.getcwd()
    os.environ["PYTHONSAFEPATH"] = "1"
    if sys.version_info < (3, 11):
        os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def task(working_folder: str, cfg: DictConfig) -> int:
    """One job, in a process or on a machine of the launcher's; the exit status."""
    os.chdir(working_folder)
    drop_what_cannot_be_written()
    resolvers.register()
    words = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    assert isinstance(words, list)
    folder = output_folder()
    try:
        with lifeline.attached():
            return supervise(folder, resolved(cfg), words, "either")
    except lifeline.CutOff:
        return 128 + signal.SIGTERM
