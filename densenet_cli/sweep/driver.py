"""Runs the jobs of a sweep that are not done yet, and says at the end how all of them stand."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from densenet_cli.compose import composing, key, quoted, value
from densenet_cli.hold import BUSY, InUse, hold
from densenet_cli.identity import WITHOUT_EFFECT
from densenet_cli.options import UserError
from densenet_cli.summary import relative
from densenet_cli.sweep import jobs, places, plugins, table
from densenet_cli.sweep.jobs import Job, Sweep
from densenet_cli.sweep.standing import Standing
from densenet_cli.workers import Worker, passing_on_signals

POLL_S = 2.0  # between looks at a job that another process runs


def run(words: list[str]) -> int:
    """Run, or with plan=true only show, the sweep that words make; the exit status."""
    config_dir, typed = _without_flags(words)
    with composing(config_dir) as own:
        if folder := value(typed, "resume"):
            sweep = _resumed(Path(folder).expanduser(), typed, own)
        else:
            sweep = jobs.read([*own, *typed])
        if sweep.cfg.plan:
            from densenet_cli.sweep import plan

            return plan.show(sweep)
        jobs.note(sweep)
        state = Standing(sweep.jobs)
        _say(f"{len(sweep.jobs)} jobs in {relative(sweep.folder)}{state.already()}")
        if plugins.wanted(sweep.cfg):
            plugins.launch(sweep, [job for job in sweep.jobs if not state.of(job).finished])
        else:
            Runner(state, places.shared_out(sweep.cfg, sweep.jobs), sweep.fail_fast).run()
    table.show(sweep, state)
    return state.exit_status()


class Runner:
    """Runs jobs at one or several places of this machine, beside other processes that do the same.

    Args:
        state: how the jobs stand; kept up to date.
        where: the places, each running a job at a time.
        fail_fast: whether to stop at the first job that fails.
    """

    def __init__(self, state: Standing, where: list[places.Place], fail_fast: bool) -> None:
        self.state, self.fail_fast = state, fail_fast
        self.workers = [Worker(place) for place in where]
        self._choosing = threading.Lock()
        self._stopped = threading.Event()

    def run(self) -> None:
        """Run until every job is finished here or elsewhere, or the sweep is stopped."""
        with passing_on_signals(self.workers, also=self._stopped.set):
            if len(self.workers) == 1:
                self._work(self.workers[0])
                return
            with ThreadPoolExecutor(len(self.workers)) as pool:
                for ended in [pool.submit(self._work, worker) for worker in self.workers]:
                    ended.result()

    def _work(self, worker: Worker) -> None:
        try:
            while (job := self._next()) is not None:
                self._announce(job)
                status = worker.run(job.folder, job.config, job.words, "either")
                self._settle(job, status)
        finally:
            worker.close()

    def _next(self) -> Job | None:
        """A job to run now; None when there is none left. Waits for jobs that are run elsewhere."""
        told = False
        while not self._stopped.is_set():
            with self._choosing:
                for job in self.state.jobs:
                    if self.state.of(job).state in ("to do", "elsewhere") and self._is_ours(job):
                        self.state.of(job).state = "running"
                        return job
            elsewhere = self.state.count("elsewhere")
            if not elsewhere:
                return None
            if not told:
                _say(f"waiting for {elsewhere} jobs that another process runs")
                told = True
            self._stopped.wait(POLL_S)
        return None

    def _is_ours(self, job: Job) -> bool:
        """Whether the job is still to be run, and by nobody else."""
        job.folder.mkdir(parents=True, exist_ok=True)
        try:
            with hold(job.folder):
                self.state.look(job)
        except InUse:
            self.state.of(job).state = "elsewhere"
            return False
        return not self.state.of(job).finished

    def _settle(self, job: Job, status: int) -> None:
        states = {0: "done", BUSY: "elsewhere", 130: "interrupted", 143: "interrupted"}
        self.state.of(job).state = states.get(status, "failed")
        if status in (130, 143) or (self.fail_fast and self.state.of(job).state == "failed"):
            self._stopped.set()
        if len(self.workers) > 1:
            _say(table.line(job, self.state))

    def _announce(self, job: Job) -> None:
        number = self.state.jobs.index(job) + 1
        _say(f"[{number}/{len(self.state.jobs)}] {job.folder.name}")


def _resumed(folder: Path, typed: list[str], own: list[str]) -> Sweep:
    """The jobs of all commands that were typed for a sweep's folder."""
    others = [word for word in typed if key(word) != "resume"]
    for word in others:
        if key(word) not in WITHOUT_EFFECT and not key(word).startswith(("hydra", "sweep.fail_fast")):
            rule = "cannot change when a sweep is continued: its jobs would be others"
            raise UserError(f"{word}: {rule}; type it with --multirun and sweep.name={folder.name}")
    commands, _ = jobs.typed_before(folder)
    sweeps = [
        jobs.read([*own, *words, f"hydra.sweep.dir={quoted(str(folder))}", *others])
        for words in commands
    ]
    known = {str(job.folder): job for sweep in sweeps for job in sweep.jobs}
    return Sweep(folder, sweeps[-1].cfg, sweeps[-1].words, list(known.values()))


def _without_flags(words: list[str]) -> tuple[str | None, list[str]]:
    """The folder of the user's own choices, if one is named, and the words without flags."""
    config_dir, rest = None, []
    waiting = iter(words)
    for word in waiting:
        flag, _, text = word.partition("=")
        if flag in ("--config-dir", "-cd"):
            config_dir = text or next(waiting, "")
        elif flag not in ("--multirun", "-m"):
            rest.append(word)
    return config_dir, rest


def _say(message: str) -> None:
    print(f"densenet-run: {message}", file=sys.stderr, flush=True)
