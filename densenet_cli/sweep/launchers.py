"""Hydra's launcher plugins (joblib, submitit, ray): they decide where the jobs of a sweep run."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from hydra._internal.callbacks import (
    Callbacks,  # a launcher's context needs one, and Hydra exports none
)
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from densenet_cli.config import resolvers
from densenet_cli.config.compose import compose, resolved
from densenet_cli.config.overrides import quoted
from densenet_cli.options import UserError
from densenet_cli.process.streams import drop_what_cannot_be_written
from densenet_cli.run.supervisor import supervise
from densenet_cli.sweep import grid, lifeline
from densenet_cli.sweep.jobs import Job, Sweep

SAFE_PATH = "PYTHONSAFEPATH"


def uses_plugin(cfg: DictConfig) -> bool:
    """Whether a launcher plugin runs the jobs. hydra/launcher=parallel is ours: it has no _target_."""
    is_basic = cfg.hydra.runtime.choices["hydra/launcher"] == "basic"  # none is typed
    return not is_basic and cfg.hydra.launcher.get("_target_") is not None


def launch(sweep: Sweep, jobs: list[Job]) -> int:
    """Hand the jobs to the launcher that hydra/launcher= names, and wait for it.

    A signal ends the jobs that run or wait on this machine, but not those of SLURM.

    Returns:
        The number of that signal; 0 if none came.

    Raises:
        UserError: if the launcher itself fails, for example because there is no SLURM.
    """
    if not jobs:
        return 0
    folder = sweep.folder.resolve()
    about = [
        one for one in grid.sweep_overrides(sweep.overrides) if not one.startswith("hydra.sweep.dir")
    ]
    cfg = compose([*about, f"hydra.sweep.dir={quoted(str(folder))}"], with_hydra=True)
    loader = GlobalHydra.instance().config_loader()
    context = HydraContext(config_loader=loader, callbacks=Callbacks(cfg))
    overrides = [[*job.overrides, f"hydra.sweep.subdir={quoted(job.folder.name)}"] for job in jobs]
    name = str(cfg.hydra.launcher._target_).rpartition(".")[2]
    try:
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=context, task_function=functools.partial(run_job, os.getcwd()), config=cfg
        )
        with _safe_path(folder), contextlib.nullcontext() if "Slurm" in name else lifeline.listening():
            launcher.launch(overrides, initial_job_idx=0)
        return 0
    except lifeline.CommandSignalled as signalled:
        return signalled.number
    except Exception as error:
        raise UserError(f"hydra/launcher ({name}): {type(error).__name__}: {error}") from error


@contextlib.contextmanager
def _safe_path(folder: Path) -> Iterator[None]:
    """While entered, the processes of a launcher import no module from the working folder.

    Launchers start them with `python -m`, which imports modules from the working folder first. Python
    3.11 has a variable against this; older versions start the processes in `folder`, which has no
    modules.
    """
    before, variable = os.getcwd(), os.environ.get(SAFE_PATH)
    os.environ[SAFE_PATH] = "1"
    if sys.version_info < (3, 11):
        os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
        if variable is None:
            del os.environ[SAFE_PATH]
        else:
            os.environ[SAFE_PATH] = variable


def run_job(working_folder: str, cfg: DictConfig) -> int:
    """Run one job, in a process that a launcher has started; the exit status."""
    os.chdir(working_folder)
    drop_what_cannot_be_written()
    resolvers.register()
    overrides = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    assert isinstance(overrides, list)
    runtime = OmegaConf.to_container(HydraConfig.get().runtime, resolve=False)  # ${...} may be a name
    folder = Path(runtime["output_dir"])  # type: ignore[index,call-overload]
    try:
        with lifeline.connected():
            return supervise(folder, {**resolved(cfg), "next_steps": []}, overrides, "either")
    except lifeline.CommandEnded:
        return 128 + signal.SIGTERM
