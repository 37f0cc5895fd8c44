"""hydra/sweeper=optuna: a search, which proposes the next runs from the results of those before.

The Optuna study is stored in optuna.db (SQLite) in the sweep's folder. The same command resumes the
search: interrupted runs first.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from omegaconf import DictConfig, OmegaConf

from densenet_cli import units
from densenet_cli.config.build import build, naming
from densenet_cli.config.trust import Trust, check_stored_overrides
from densenet_cli.config.variants import Variants
from densenet_cli.files.lock import FolderInUse, is_locked, lock_folder
from densenet_cli.files.plain_file import UnreadableFile
from densenet_cli.options import OptionError, UserError, choice, not_installed, whole_number
from densenet_cli.plain_text import first_line, printable
from densenet_cli.process.load_torch import load_lightning
from densenet_cli.process.streams import say
from densenet_cli.record.identity import identity
from densenet_cli.record.run_record import reported_checkpoint
from densenet_cli.record.trained_on import may_change
from densenet_cli.run.summary import relative
from densenet_cli.sweep import grid, jobs, slots
from densenet_cli.sweep.folders import Folders, job_name
from densenet_cli.sweep.jobs import Job, Sweep
from densenet_cli.sweep.runner import Runner
from densenet_cli.sweep.status import SweepStatus, is_of_labels, output_console, stored_record

try:
    import optuna
    from optuna.distributions import (
        BaseDistribution,
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial, TrialState
    from sqlalchemy.exc import SQLAlchemyError
except ImportError as missing:
    raise not_installed("hydra/sweeper=optuna", "optuna", extra="search") from missing

from densenet_cli.sweep import pruning
from densenet_cli.sweep.pruning import Judge, errors_by_epoch

STUDY_FILE = "optuna.db"
SAMPLERS = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}


def run_search(overrides: list[str], trust: Trust, source: Path | None) -> int:
    """Search until all trials have run, and print the results; within `composing` only.

    Args:
        overrides: as typed.
        trust: what may be built from a configuration that was read from a folder.
        source: the file the overrides were read from; None if the user typed them.

    Returns:
        The exit status.
    """
    cfg, typed = jobs.sweep_options(overrides)
    for name, unset in (("seeds", None), ("sweep.jobs", [""]), ("plan", False)):
        if (value := OmegaConf.select(cfg, name)) != unset:
            raise OptionError(name, value, "is for grids, not for a search; leave it out")
    commands = jobs.split_by_experiment(overrides)
    if len(commands) > 1 and any(jobs.sweep_options(one)[0].hydra.sweeper.params for one in commands):
        raise UserError(
            "experiment=: has several values, and the file of one has hydra.sweeper.params, which are "
            "for that one only; search each experiment by a command of its own"
        )
    search = Search(cfg, typed, grid.search_path(overrides), trust, source)
    jobs.save_sweep(Sweep(search.folder, cfg, overrides, []))
    say(f"searching in {relative(search.folder)}")
    search.run()
    search.status.print_table(search.folder, cfg.hydra.searchpath)
    search.print_best()
    if search.signal_number:
        return 128 + search.signal_number
    return 1 if search.refused else search.status.exit_status()


class Search(Runner):
    """Runs the trials that an Optuna study proposes, and tells it their validation errors.

    Args:
        cfg: the configuration of the sweep as a whole.
        typed: the overrides of its jobs; those with several values or an interval are searched.
        search_path: the overrides that name folders of the user's own choices.
        trust: what may be built from a configuration that was read from a folder.
        source: the file the overrides were read from; None if the user typed them.

    Raises:
        UserError: if the overrides were read from a file, and may not be built.
        OptionError: if there is nothing to search, or no validation images.
    """

    def __init__(
        self,
        cfg: DictConfig,
        typed: list[str],
        search_path: list[str],
        trust: Trust = Trust(),  # noqa: B008 -- it is frozen
        source: Path | None = None,
    ) -> None:
        options = cfg.hydra.sweeper
        self.trials = whole_number("hydra.sweeper.trials", options.trials, example=20)
        choice("hydra.sweeper.sampler", options.sampler, list(SAMPLERS))
        whole_number("hydra.sweeper.seed", options.seed, example=0, at_least=0)
        overrides = grid.parse(typed)
        searched = {one.get_key_element(): one for one in overrides if one.is_sweep_override()}
        self.space = {name: distribution(one) for name, one in searched.items()}
        self.fixed = [one.input_line or "" for one in overrides if not one.is_sweep_override()]
        if not self.space:
            rule = "has one value, so that there is nothing to search; type several, or an interval"
            raise OptionError("model.growth_rate", 12, rule, "12,24,40")
        self.search_path, self.trust, self.source = search_path, trust, source
        self.variants = Variants()
        if source is not None:
            check_stored_overrides(typed, source, jobs.TYPE_AGAIN)
        pruner = pruning.pruner_options(cfg)
        self.config = config = self._compose(self.fixed)
        if config["data"].get("validation") == 0 and not _has_validation_images(config["data"]):
            rule = "a search needs validation images, since it must not choose by the test images"
            raise OptionError("data.validation", 0, rule, 5000)
        if pruner is not None:
            pruning.check_trials(config, searched)
        self.folder = jobs.sweep_folder(cfg)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folders = Folders(self.folder)
        self.sampler, self.seed = SAMPLERS[options.sampler], int(options.seed)
        self.lock = FileLock(self.folder / ".lock")  # for the process that reads or changes the trials
        with self.lock:
            jobs.check_kind(cfg)
            self.judge = self._open_study(pruner)
        self.study = self.judge.study
        self._numbers: dict[str, int] = {}  # identity of a job that runs -> number of its trial
        self.refused = 0  # trials whose values make no configuration
        places = slots.worker_places(cfg, [config["trainer"]], self.folder)
        super().__init__(SweepStatus([]), places, jobs.fail_fast(cfg))
        self.prunes = pruner is not None
        for trial in self._trials(TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED):
            if (job := self._job(trial)) is not None:
                self.status.add(job)
                if self.status[job] not in ("done before", "pruned"):
                    self.status[job] = "failed"

    def next_job(self) -> Job | None:
        """The job of an interrupted trial or of a new one; None when enough trials have run."""
        while not self.stopped:
            with self._choosing, self.lock:
                for trial in self._trials(TrialState.RUNNING):
                    job = self._job(trial)
                    if job is None:
                        self.refused += 1
                        self.study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
                    elif job.identity not in self._numbers and self._claim(job, trial.number):
                        return job
                number = len(self._trials())
                if number < self.trials:
                    # With this seed, no two processes and no resumed search propose the same values.
                    self.study.sampler = self.sampler(seed=self.seed + number)
                    self.judge.propose(self.space)
                    continue
                self._reread_elsewhere()
                if not self.status.count("elsewhere"):
                    return None
            self._pause()
        return None

    def print_best(self) -> None:
        """Print the values with the lowest validation error, as one types them."""
        if self._trials(TrialState.COMPLETE):
            best, console = self.study.best_trial, output_console()
            values = " ".join(f"{name}={value}" for name, value in best.params.items())
            console.print(f"best of {len(self.study.trials)} trials: {printable(values)}")
            job = self._job(best)
            assert best.value is not None  # of a trial that is complete
            if job is not None and is_of_labels(stored_record(job)):
                console.print(f"validation AUROC: {units.auroc(best.value)}")
            else:
                console.print(f"validation error: {best.value:.2f} %")

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        """The trials in one of these states, or all."""
        return self.study.get_trials(deepcopy=False, states=states or None)

    def _claim(self, job: Job, number: int) -> bool:
        """Whether this process is to run the job of a trial; if it is done the study is told."""
        self.status.add(job)
        job.folder.mkdir(parents=True, exist_ok=True)
        try:
            with lock_folder(job.folder):
                self.status.reread(job)
        except FolderInUse:
            self.status[job] = "elsewhere"
            return False
        if stored_record(job).get("state") == "done":
            self._tell(job, number)
            return False
        self._numbers[job.identity] = number
        self.status[job] = "running"
        return True

    def _reread_elsewhere(self) -> None:
        """Note which jobs of other processes have ended."""
        for job in self.status.jobs:
            if self.status[job] == "elsewhere":
                self.status.reread(job)
                if self.status[job] == "elsewhere" and not is_locked(job.folder):
                    self.status.fail(job, "another process did not finish it")

    def _asked_by(self, job: Job) -> Callable[[int], bool] | None:
        def goes_on(epoch: int) -> bool:
            with self._choosing, self.lock:
                number, errors = self._numbers[job.identity], errors_by_epoch(job.folder)
                return not self.judge.prunes(number, errors, epoch)

        return goes_on if self.prunes else None

    def _finish(self, job: Job, exit_status: int) -> None:
        super()._finish(job, exit_status)
        with self._choosing, self.lock:  # another process may find the record, and tell the study too
            number = self._numbers.pop(job.identity)
            if self.status[job] in ("done", "pruned"):
                self._tell(job, number)
            elif self.status[job] == "failed":
                self.study.tell(number, state=TrialState.FAIL, skip_if_finished=True)

    def _position(self, job: Job) -> str:
        return f"[{self._numbers[job.identity] + 1}/{self.trials}]"

    def _tell(self, job: Job, number: int) -> None:
        """Tell the study the validation error of a trial that is done, or that it was pruned."""
        fields = stored_record(job)
        if self.prunes and self._trials()[number].state == TrialState.RUNNING:
            self.judge.report(number, errors_by_epoch(job.folder))
        if fields["state"] == "pruned":
            self.study.tell(number, state=TrialState.PRUNED, skip_if_finished=True)
            return
        error = fields["results"].get(f"validation_error_{reported_checkpoint(fields)}")
        state = TrialState.FAIL if error is None else None
        self.study.tell(number, error, state=state, skip_if_finished=True)

    def _job(self, trial: FrozenTrial) -> Job | None:
        """The job of a trial; None if its values are incomplete after a kill, or no configuration."""
        values = trial.params
        overrides = [*self.fixed, *(f"{name}={value}" for name, value in values.items())]
        if trial.distributions != self.space:
            return None
        try:
            config = self._compose(overrides)
        except UserError as error:
            say(str(error))
            return None
        rounded = {
            name: f"{value:.6g}" if isinstance(value, float) else str(value)
            for name, value in values.items()
        }
        return Job(overrides, config, self.folders.find(job_name(rounded), config))

    def _compose(self, overrides: list[str]) -> dict[str, Any]:
        config = jobs.compose_job(overrides, self.search_path, self.variants)
        if self.source is not None:
            self.trust.check(config, self.source)
        return config

    def _open_study(self, pruner: dict[str, Any] | None) -> Judge:
        """The study in the sweep's folder, which is created if there is none.

        Raises:
            UserError: if the file cannot be read, or its study is another search.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        path = self.folder / STUDY_FILE
        if path.exists() and not path.is_file():
            raise UnreadableFile(path, "cannot be read: it is not a regular file")
        try:
            storage = RDBStorage(f"sqlite:///{path}")
            study = optuna.create_study(
                storage=storage,
                study_name=pruning.STUDY,
                pruner=pruning.build_pruner(pruner, self.config["epochs"]),
                load_if_exists=True,
            )
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            raise UnreadableFile(path, f"cannot be read as a search: {first_line(error)}") from error
        asked = {name: repr(one) for name, one in self.space.items()}
        asked["fixed"] = identity(self.config)
        if pruner is not None:
            asked["pruner"] = repr(pruner)
        if study.user_attrs.get("asked", asked) != asked:
            raise UserError(
                f"{self.folder} contains a search over other values, or with other options; choose "
                "another folder by sweep.name="
            )
        study.set_user_attr("asked", asked)
        data = self.config["data"]
        images = self.folders.images.of(data) if may_change(data) else None
        if images is not None:
            if study.user_attrs.get("images", images) != images:
                # Errors on different images cannot be compared.
                rule = "contains a search on other images than there are now"
                raise UserError(f"{self.folder} {rule}; put them back, or choose another sweep.name=")
            study.set_user_attr("images", images)
        return Judge(study, storage)


def _has_validation_images(data: dict[str, Any]) -> bool:
    """Whether the data set has validation images of its own: a folder with train/, val/ and test/."""
    load_lightning()
    with naming("data"):
        return build("data", data).has_validation_images


def distribution(override: Override) -> BaseDistribution:
    """What the search chooses from, for an override such as k=12,24 or k=tag(log,interval(0.01,1))."""
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
