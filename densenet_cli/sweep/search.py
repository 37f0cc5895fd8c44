"""hydra/sweeper=optuna: a search that proposes the next runs by the results of those before.

The search is kept in optuna.db (SQLite) in the sweep's folder, so that the same command goes on with
it; runs that were broken off are continued first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from densenet_cli.config.build import build, naming
from densenet_cli.config.trust import Trust, check_words
from densenet_cli.files.lock import FolderInUse, is_locked, lock_folder
from densenet_cli.files.plain_file import UnreadableFile
from densenet_cli.options import OptionError, UserError, choice, not_installed, whole_number
from densenet_cli.plain_text import first_line, printable
from densenet_cli.process.load_torch import load_lightning
from densenet_cli.record.identity import identity
from densenet_cli.record.run_record import reported
from densenet_cli.record.trained_on import may_change
from densenet_cli.run.summary import relative
from densenet_cli.sweep import grid, jobs, slots
from densenet_cli.sweep import job_table as table
from densenet_cli.sweep.folders import Folders, name_of
from densenet_cli.sweep.jobs import Job, Sweep
from densenet_cli.sweep.runner import Runner, say
from densenet_cli.sweep.standing import Standing, record

try:
    import optuna
    from optuna.distributions import (
        BaseDistribution,
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )
    from optuna.trial import TrialState
    from sqlalchemy.exc import SQLAlchemyError
except ImportError as missing:
    raise not_installed("hydra/sweeper=optuna", "optuna", extra="search") from missing

FILE = "optuna.db"
SAMPLERS = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}


def run(words: list[str], trust: Trust, file: Path | None) -> int:
    """Search until as many trials as wanted are over; the exit status. Within `composing` only.

    Args:
        words: as typed.
        trust: what folders that are read may name.
        file: where the words were read from; None: the user has typed them.
    """
    cfg, typed = jobs.options(words)
    for name, unset in (("seeds", None), ("sweep.jobs", [""]), ("plan", False)):
        if (value := OmegaConf.select(cfg, name)) != unset:
            raise OptionError(name, value, "is for grids, not for a search; leave it out")
    experiments = jobs.by_experiment(words)
    if len(experiments) > 1 and any(jobs.options(own)[0].hydra.sweeper.params for own in experiments):
        rule = "has hydra.sweeper.params in its file, which cannot be searched beside those of another"
        raise UserError(f"experiment=: one of several {rule}; search each of them for itself")
    search = Search(cfg, typed, grid.search_path(words), trust, file)
    jobs.note(Sweep(search.folder, cfg, words, []))
    say(f"searching in {relative(search.folder)}")
    search.run()
    table.show(search.folder, search.state, cfg.hydra.searchpath)
    search.show_best(table.output())
    if search.signalled:
        return 128 + search.signalled
    return 1 if search.refused else search.state.exit_status()


class Search(Runner):
    """Runs what an Optuna study proposes, and tells it the validation errors.

    Args:
        cfg: the configuration of the sweep as a whole.
        typed: the words for its jobs; those with several values or an interval are searched.
        search_path: the words that say where choices of the user's own lie.
        trust: what folders that are read may name.
        file: where the words were read from; None: the user has typed them.

    Raises:
        UserError: if the words were read, and may not be built.
        OptionError: if nothing is to be searched, or no images are held out to judge by.
    """

    def __init__(
        self,
        cfg: DictConfig,
        typed: list[str],
        search_path: list[str],
        trust: Trust = Trust(),  # noqa: B008 -- it is frozen
        file: Path | None = None,
    ) -> None:
        options = cfg.hydra.sweeper
        self.trials = whole_number("hydra.sweeper.trials", options.trials, example=20)
        choice("hydra.sweeper.sampler", options.sampler, list(SAMPLERS))
        whole_number("hydra.sweeper.seed", options.seed, example=0, at_least=0)
        overrides = grid.parse(typed)
        self.space = {
            one.get_key_element(): distribution(one) for one in overrides if one.is_sweep_override()
        }
        self.fixed = [one.input_line or "" for one in overrides if not one.is_sweep_override()]
        if not self.space:
            rule = "one value is nothing to search; type several, or an interval"
            raise OptionError("model.growth_rate", 12, rule, "12,24,40")
        self.search_path, self.trust, self.file = search_path, trust, file
        if file is not None:
            check_words(typed, file, jobs.AGAIN)
        self.config = config = self._composed(self.fixed)
        if config["data"].get("validation") == 0 and not _holds_out(config["data"]):
            rule = "a search needs held-out images to judge by, since the test images must not choose"
            raise OptionError("data.validation", 0, rule, 5000)
        self.folder = jobs.folder(cfg)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folders = Folders(self.folder)
        self.sampler, self.seed = SAMPLERS[options.sampler], int(options.seed)
        self.lock = FileLock(self.folder / ".lock")  # held by the process that looks at all trials
        with self.lock:
            self.study = self._study()
        self._numbers: dict[str, int] = {}  # identity of a job -> the trial it is run for
        self.refused = 0  # trials whose words make no configuration
        where = slots.shared_out(cfg, [config["trainer"]], self.folder)
        super().__init__(Standing([]), where, jobs.fail_fast(cfg))
        for trial in self.study.get_trials(
            deepcopy=False, states=(TrialState.COMPLETE, TrialState.FAIL)
        ):
            if (job := self._job(trial)) is not None:
                self.state.add(job)
                if self.state[job] != "done before":
                    self.state[job] = "failed"

    def next_job(self) -> Job | None:
        """The run of a trial that was broken off, or of a new one; None when enough are over."""
        while not self.stopped:
            with self._choosing, self.lock:
                waiting = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
                for trial in waiting:
                    job = self._job(trial)
                    if job is None:
                        self.refused += 1
                        self.study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
                    elif job.identity not in self._numbers and self._is_to_run(job, trial.number):
                        return job
                number = len(self.study.get_trials(deepcopy=False))
                if number < self.trials:
                    # Neither another process nor a search that goes on proposes the same once more.
                    self.study.sampler = self.sampler(seed=self.seed + number)
                    self.study.ask(self.space)
                    continue
                self._look_elsewhere()
                if not self.state.count("elsewhere"):
                    return None
            self._pause()
        return None

    def _look_elsewhere(self) -> None:
        """Note which runs of other processes are over."""
        for job in self.state.jobs:
            if self.state[job] == "elsewhere":
                self.state.look(job)
                if self.state[job] == "elsewhere" and not is_locked(job.folder):
                    self.state.fail(job, "ended in another process")

    def show_best(self, console: Console) -> None:
        """Print the settings with the lowest validation error, as one types them."""
        if any(trial.state == TrialState.COMPLETE for trial in self.study.get_trials(deepcopy=False)):
            best = self.study.best_trial
            words = " ".join(f"{name}={value}" for name, value in best.params.items())
            console.print(f"best of {len(self.study.trials)} trials: {printable(words)}")
            console.print(f"its error on held-out images: {best.value:.2f} %")

    def _is_to_run(self, job: Job, number: int) -> bool:
        """Whether a trial's run is ours to do now; if it is over already the study is told."""
        self.state.add(job)
        job.folder.mkdir(parents=True, exist_ok=True)
        try:
            with lock_folder(job.folder):
                self.state.look(job)
        except FolderInUse:
            self.state[job] = "elsewhere"
            return False
        if record(job).get("state") == "done":
            self._tell(job, number)
            return False
        self._numbers[job.identity] = number
        self.state[job] = "running"
        return True

    def _settle(self, job: Job, status: int) -> None:
        super()._settle(job, status)
        number = self._numbers.pop(job.identity)
        if self.state[job] == "done":
            self._tell(job, number)
        elif self.state[job] == "failed":
            self.study.tell(number, state=TrialState.FAIL, skip_if_finished=True)

    def _number(self, job: Job) -> str:
        return f"[{self._numbers[job.identity] + 1}/{self.trials}]"

    def _tell(self, job: Job, number: int) -> None:
        fields = record(job)
        error = fields["results"].get(f"validation_error_{reported(fields)}")
        state = TrialState.FAIL if error is None else None
        self.study.tell(number, error, state=state, skip_if_finished=True)

    def _job(self, trial: optuna.trial.FrozenTrial) -> Job | None:
        """The run of a trial; None if its words make none, or a kill left it without all of them."""
        params = trial.params
        words = [*self.fixed, *(f"{name}={value}" for name, value in params.items())]
        if trial.distributions != self.space:
            return None
        try:
            config = self._composed(words)
        except UserError as error:
            say(str(error))
            return None
        rounded = {
            name: f"{value:.6g}" if isinstance(value, float) else str(value)
            for name, value in params.items()
        }
        return Job(words, config, self.folders.place(name_of(rounded), config))

    def _composed(self, words: list[str]) -> dict[str, Any]:
        config = jobs.composed(words, self.search_path)
        if self.file is not None:
            self.trust.check(config, self.file)
        return config

    def _study(self) -> optuna.Study:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        path = self.folder / FILE
        if path.exists() and not path.is_file():
            raise UnreadableFile(path, "cannot be read: it is not a regular file")
        try:
            study = optuna.create_study(
                storage=f"sqlite:///{path}", study_name="search", load_if_exists=True
            )
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            reason = first_line(error)
            raise UnreadableFile(path, f"cannot be read as a search: {reason}") from error
        asked = {name: repr(one) for name, one in self.space.items()}
        asked["fixed"] = identity(self.config)
        if study.user_attrs.setdefault("asked", asked) != asked:
            raise UserError(
                f"{self.folder} holds a search among other values, or with other options; choose "
                "another folder by sweep.name="
            )
        study.set_user_attr("asked", asked)
        self._note_images(study)
        return study

    def _note_images(self, study: optuna.Study) -> None:
        """Errors on other images do not compare: refuse to go on with a search on them."""
        data = self.config["data"]
        images = self.folders.images.digest(data) if may_change(data) else None
        if images is None:
            return
        if study.user_attrs.get("images", images) != images:
            rule = "holds a search on other images than there are now"
            raise UserError(f"{self.folder} {rule}; put them back, or choose another sweep.name=")
        study.set_user_attr("images", images)


def _holds_out(options: dict[str, Any]) -> bool:
    """Whether data have held-out images of their own, as a folder with train/, val/ and test/."""
    load_lightning()
    with naming("data"):
        return build("data", options).has_validation_images


def distribution(override: Override) -> BaseDistribution:
    """What a word such as key=12,24 or key=tag(log,interval(0.01,1)) lets the search choose from."""
    sweep = override.value()
    if isinstance(sweep, IntervalSweep):
        low, high, is_log = sweep.start, sweep.end, "log" in sweep.tags
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, log=is_log)
        assert low is not None
        assert high is not None
        return FloatDistribution(float(low), float(high), log=is_log)
    if isinstance(sweep, RangeSweep) and isinstance(sweep.start, int) and isinstance(sweep.step, int):
        assert isinstance(sweep.stop, int)
        last = sweep.start + (sweep.stop - 1 - sweep.start) // sweep.step * sweep.step
        return IntDistribution(sweep.start, last, step=sweep.step)
    return CategoricalDistribution(tuple(override.sweep_string_iterator()))
