"""Runs a sweep with seeds=until_decided: round by round, until no comparison needs another run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from densenet_cli.decisions.rounds import Standing, in_order, most, needed, standings
from densenet_cli.plain_text import counted
from densenet_cli.process.streams import say
from densenet_cli.run.summary import relative
from densenet_cli.run.supervisor import Place
from densenet_cli.sweep import jobs, launchers, slots
from densenet_cli.sweep.decide.comparisons import Comparisons, comparisons
from densenet_cli.sweep.decide.verdicts import print_verdicts
from densenet_cli.sweep.jobs import Job, Sweep
from densenet_cli.sweep.runner import Runner
from densenet_cli.sweep.status import FINISHED, SweepStatus, is_of_labels, output_console, stored_record
from densenet_cli.units import duration


def run_until_decided(sweep: Sweep, others: list[Job], is_new: bool) -> int:
    """Run what the comparisons need, and print the results and verdicts; within `composing` only.

    Args:
        sweep: with the jobs of all seeds that may be needed.
        others: jobs of other commands for the same folder, which are run in any case.
        is_new: whether the command was typed, and not read from the folder.

    Returns:
        The exit status: as of any sweep. Comparisons that stay undecided are no failure.
    """
    compared = comparisons(sweep)
    rounds = Rounds(compared, others)
    jobs.check_design(sweep.folder, compared.as_recorded())
    if sweep.cfg.plan:
        return _show_plan(sweep, rounds)
    first = rounds.needed()
    if is_new:
        jobs.save_sweep(replace(sweep, jobs=first), compared.as_recorded())
    _say_what_begins(sweep, rounds)
    if launchers.uses_plugin(sweep.cfg):
        signal_number = _launch(sweep, rounds)
    else:
        trainers = [job.config["trainer"] for job in [*others, *sweep.jobs]]
        places = slots.worker_places(sweep.cfg, trainers, sweep.folder)
        runner = Decider(rounds, sweep, places)
        runner.run()
        signal_number = runner.signal_number
    rounds.needed()
    place = {job.identity: number for number, job in enumerate([*others, *sweep.jobs])}
    rounds.status.jobs.sort(key=lambda job: place[job.identity])
    rounds.status.print_table(sweep.folder, sweep.cfg.hydra.searchpath)
    of_labels = any(is_of_labels(stored_record(job)) for job in rounds.status.jobs)
    design, standing = compared.design, rounds.standing
    print_verdicts(sweep.folder, design, rounds.errors, standing, rounds.obstacle, of_labels)
    return 128 + signal_number if signal_number else rounds.status.exit_status()


class Rounds:
    """Which runs the comparisons need, by the records of those that are finished.

    Args:
        compared: what is to be decided.
        others: jobs that are needed in any case.

    Attributes:
        status: the states of the jobs needed so far.
        errors: for each setting the reported test errors of its finished runs by seed, in percent.
        standing: how far each comparison has come.
    """

    def __init__(self, compared: Comparisons, others: Iterable[Job] = ()) -> None:
        alike = {job.identity: job for job in compared.jobs.values()}
        self.compared, self.others = compared, [alike.get(job.identity, job) for job in others]
        self.status = SweepStatus(self.others)
        self.errors: dict[str, dict[int, float]] = {name: {} for name in compared.design.settings}
        self.standing: dict[str, Standing] = standings(compared.design, self.errors)
        self.needed()

    def needed(self) -> list[Job]:
        """The jobs that are needed now, finished ones among them, in the order in which to run them."""
        design = self.compared.design
        while True:
            runs = list(in_order(design, needed(design, self.standing)))
            new = [self._read(*run) for run in runs]
            if not any(new):
                return [*self.others, *(self.compared.jobs[run] for run in runs)]
            self.standing = standings(design, self.errors)

    def _read(self, setting: str, seed: int) -> bool:
        """Take note of a run that is needed; whether its error was not known before."""
        job = self.compared.jobs[setting, seed]
        self.status.add(job)
        if seed in self.errors[setting]:
            return False
        if self.status[job] in ("to do", "elsewhere"):
            self.status.reread(job)
        if (error := reported_error(job)) is not None:
            self.errors[setting][seed] = error
        return error is not None

    def at_most(self) -> list[Job]:
        """The jobs that are needed if nothing more is decided before the last look."""
        design = self.compared.design
        runs = in_order(design, most(design, self.standing))
        return [*self.others, *(self.compared.jobs[run] for run in runs)]

    def obstacle(self, setting: str) -> str:
        """Why the comparison of a setting with the baseline has not ended; empty if it has."""
        if self.standing[setting].ended:
            return ""
        seeds = self.compared.design.seeds(self.standing[setting].seeds)
        missing = [
            (one, seed)
            for seed in seeds
            for one in (setting, self.compared.design.baseline)
            if seed not in self.errors[one]
        ]
        for one, seed in missing:
            state = self.status[self.compared.jobs[one, seed]]
            if state == "failed":
                return f"seed {seed} of {one} failed"
            if state in ("done", "done before"):
                return f"seed {seed} of {one} has no test error"
        return f"{counted(len(missing), 'run')} to do"


def reported_error(job: Job) -> float | None:
    """The test error that a job reports, in percent, as densenet-results averages it.

    That is the error of the last epoch, or of the best one where the recipe says so and validation
    images choose it.

    Returns:
        None if the job is not done, or if no test was made.
    """
    fields = stored_record(job)
    return fields["results"].get("test_error") if fields.get("state") == "done" else None


class Decider(Runner):
    """Gives the jobs that are needed to workers, until no comparison needs another."""

    def __init__(self, rounds: Rounds, sweep: Sweep, places: list[Place]) -> None:
        super().__init__(rounds.status, places, jobs.fail_fast(sweep.cfg))
        self.rounds, self.news = rounds, News(rounds, sweep.folder)

    def next_job(self) -> Job | None:
        """A job to run now; None when no comparison needs another. Waits for those that run."""
        while not self.stopped:
            with self._choosing:
                wanted = self.rounds.needed()
                self.news.tell(wanted)
                for job in wanted:
                    if self.status[job] in ("to do", "elsewhere") and self._can_run(job):
                        self.status[job] = "running"
                        return job
                if self.rounds.needed() != wanted:  # another process has just finished one
                    continue
                if not any(self.status[job] in ("running", "elsewhere") for job in wanted):
                    return None
            self._say_that_it_waits()
            self._pause()
        return None

    def _position(self, job: Job) -> str:
        known, most_of_all = len(self.status.jobs), len(self.rounds.at_most())
        of = f"{known}" if known == most_of_all else f"{known} to {most_of_all}"
        return f"[{self.status.jobs.index(job) + 1} of {of}]"


class News:
    """Tells the user, and sweep.yaml, which jobs are needed now, and which comparisons have ended.

    Args:
        rounds: what is needed.
        folder: the sweep's.
    """

    def __init__(self, rounds: Rounds, folder: Path) -> None:
        self.rounds, self.folder = rounds, folder
        self._listed = {job.identity for job in rounds.needed()}
        self._told = dict(rounds.standing)

    def tell(self, wanted: list[Job]) -> None:
        """Say what is new since the last call."""
        for setting, standing in self.rounds.standing.items():
            if standing != self._told[setting]:
                self._told[setting] = standing
                say(f"{setting}: {standing}")
        if new := [job for job in wanted if job.identity not in self._listed]:
            self._listed |= {job.identity for job in new}
            jobs.list_jobs(self.folder, new)


def _launch(sweep: Sweep, rounds: Rounds) -> int:
    """Hand the jobs to a launcher plugin; the number of the signal that ended it, or 0.

    A plugin returns when all of its jobs have ended. So it gets them in rounds, each with all the jobs
    that are known to be needed.
    """
    news, begun = News(rounds, sweep.folder), set[str]()
    while True:
        wanted = rounds.needed()
        news.tell(wanted)
        left = [
            job for job in wanted if rounds.status[job] not in FINISHED and job.identity not in begun
        ]
        if not left:
            return 0
        signal_number = launchers.launch(sweep, left)
        begun |= {job.identity for job in left}
        for job in left:
            rounds.status.reread(job)
        failed = any(rounds.status[job] == "failed" for job in left)
        if signal_number or (failed and jobs.fail_fast(sweep.cfg)):
            return signal_number


def _say_what_begins(sweep: Sweep, rounds: Rounds) -> None:
    design, done = rounds.compared.design, rounds.status.count("done before")
    already = f", {counted(done, 'run')} already done" if done else ""
    compared = counted(len(design.others), "setting")
    say(
        f"comparing {compared} with {design.baseline}, {design.looks[0]} to {design.looks[-1]} seeds "
        f"each, in {relative(sweep.folder)}{already}"
    )


def _show_plan(sweep: Sweep, rounds: Rounds) -> int:
    """Print the plan of the runs that are needed in any case, and what may be added."""
    from densenet_cli.sweep.plan.plan import show_plan, total_and_left

    most_of_all = rounds.at_most()
    status = show_plan(replace(sweep, jobs=rounds.needed()), most_of_all)
    if sweep.cfg.plan == "json":
        return status
    total, left = total_and_left(most_of_all)
    output_console().print(
        f"these are needed at least, if every comparison is decided at its next look; at most "
        f"{counted(len(most_of_all), 'run')}: {duration(total)} in total, {duration(left)} left"
    )
    return status
