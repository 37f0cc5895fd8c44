"""sweep.pruner=...: a search ends early the trials whose held-out errors are worse than others.

Optuna's pruners decide. They compare the errors of trials at the same epoch, which is what they call a
step.

Three searches of 20 trials of 9 epochs on the handwritten digits, with each pruner by its defaults:

    pruner               epochs trained   lowest held-out errors (%)   seconds
    none                 180 180 180      1.67 1.33 1.67               329 240 242
    median                85  77 113      1.67 1.33 2.33               185 165 180
    successive_halving    58  58  55      2.67 1.33 4.00               165 121 132
    hyperband             96  82  96      1.33 1.33 3.33               220 170 249

The held-out images are 300, so that one image is 0.33 %. The seconds are those of a busy machine.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import optuna
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, SuccessiveHalvingPruner
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from densenet_cli.options import OptionError, choice, whole_number
from densenet_cli.process import ranks
from densenet_cli.record.metrics import read_metrics
from densenet_cli.record.run_length import chosen_steps

PRUNERS = ("median", "successive_halving", "hyperband")
STUDY = "search"  # the study's name
JUDGED = "judged"  # the attribute of a trial with the last judgement of it
EPOCHS = ("epochs", "recipe.epochs", "recipe.steps", "budget")


def pruner_options(cfg: DictConfig) -> dict[str, Any] | None:
    """The pruner of a search with its options; None if it has none.

    Args:
        cfg: the configuration of the search as a whole.

    Returns:
        {"name": "median", "first_epoch": null, ...}.

    Raises:
        OptionError: if there is no such pruner, or an option of it is wrong.
    """
    name = cfg.sweep.pruner
    if name is None:
        return None
    choice("sweep.pruner", name, PRUNERS)
    section = f"hydra.sweeper.pruners.{name}"
    options = dict(cfg.hydra.sweeper.pruners[name])
    for key, value in options.items():
        if key != "first_epoch" or value is not None:
            least = {"startup_trials": 0, "reduction_factor": 2}.get(key, 1)
            whole_number(f"{section}.{key}", value, example=max(least, 3), at_least=least)
    return {"name": name, **options}


def check_trials(config: dict[str, Any], searched: dict[str, Override]) -> None:
    """Raise OptionError if the trials of a search cannot be compared at the same epoch, or be ended.

    Args:
        config: of a trial without the searched options.
        searched: the overrides with several values, by option.
    """
    for name in EPOCHS:
        if name in searched:
            rule = "must have one value with sweep.pruner, which compares trials at the same epoch"
            typed = (searched[name].input_line or "").partition("=")[2]
            raise OptionError(name, typed, rule, 20)
    for name, value in (("budget", config["budget"]), ("recipe.steps", chosen_steps(config))):
        if value is not None:
            rule = "cannot be used with sweep.pruner, which compares trials at the same epoch"
            raise OptionError(name, value, f"{rule}; type epochs= instead")
    if ranks.needs_worker(config["trainer"]):
        rule = "must be 1 with sweep.pruner, which ends runs of one process"
        raise OptionError("trainer.devices", config["trainer"]["devices"], rule, 1)


def build_pruner(options: dict[str, Any] | None, epochs: int) -> BasePruner:
    """Optuna's pruner for these options.

    Args:
        options: from `pruner_options`.
        epochs: of each trial.
    """
    if options is None:
        return optuna.pruners.NopPruner()
    first = options["first_epoch"]
    if options["name"] == "median":
        return MedianPruner(
            n_startup_trials=options["startup_trials"],
            n_warmup_steps=first or max(1, epochs // 10),
            interval_steps=options["every"],
        )
    factor = options["reduction_factor"]
    first = first or max(1, epochs // factor**2)
    if options["name"] == "successive_halving":
        return SuccessiveHalvingPruner(min_resource=first, reduction_factor=factor)
    pruner = HyperbandPruner(
        min_resource=min(first, epochs), max_resource=epochs, reduction_factor=factor
    )
    # It makes its brackets, by which the sampler chooses too, when it first judges a trial. A resumed
    # search must not propose before.
    empty = optuna.create_study(pruner=pruner)
    empty.add_trial(create_trial(state=TrialState.RUNNING))
    pruner.prune(empty, empty.trials[0])
    return pruner


def errors_by_epoch(folder: Path) -> dict[int, float]:
    """The held-out error of each epoch of a run that has been evaluated, in percent."""
    rows = read_metrics(folder)
    errors = {int(row["epoch"] or 0): row.get("validation_error") for row in rows}
    return {epoch: error for epoch, error in errors.items() if error is not None}


class Judge:
    """Proposes and judges the trials of a study, so that a kill at any moment changes no decision.

    Optuna's samplers and pruners write into a study in several steps while they decide. Here they
    decide on a copy in memory, and the decision is stored by a single transaction. So after a kill it
    either stands, or is made again from the same facts.

    Args:
        study: the study, with its sampler and pruner; the caller has locked it in every call.
        storage: where it is stored.
    """

    def __init__(self, study: optuna.Study, storage: RDBStorage) -> None:
        self.study, self._storage = study, storage

    def propose(self, space: dict[str, BaseDistribution]) -> None:
        """Add a trial with values that the sampler has chosen."""
        trial = self._copy().ask(space)
        state, chosen = TrialState.RUNNING, trial.params
        self.study.add_trial(create_trial(state=state, params=chosen, distributions=space))

    def prunes(self, number: int, errors: dict[int, float], epoch: int) -> bool:
        """Whether a running trial ends after an epoch.

        Args:
            number: of the trial.
            errors: by epoch, up to this one or further.
            epoch: the last completed one. If it has been judged before, that judgement holds.
        """
        trial = self._trial(number)
        known = {one: error for one, error in errors.items() if one <= epoch}
        judged = trial.user_attrs.get(JUDGED, {"epoch": 0, "pruned": False, "marks": {}})
        if judged["epoch"] < epoch and epoch in known.keys() - trial.intermediate_values.keys():
            new = {"epoch": epoch, **self._judgement(number, known)}
            if new["pruned"] or new["marks"] != judged["marks"]:
                judged = new
                self._storage.set_trial_user_attr(self._id(number), JUDGED, judged)
        for name, value in judged["marks"].items():
            if trial.system_attrs.get(name) != value:
                self._storage.set_trial_system_attr(self._id(number), name, value)
        self.report(number, known)  # at last: an epoch whose error is stored is not judged again
        return judged["pruned"] and judged["epoch"] <= epoch

    def report(self, number: int, errors: dict[int, float]) -> None:
        """Store the errors of a running trial, each once."""
        reported = self._trial(number).intermediate_values
        for epoch, error in errors.items():
            if epoch not in reported:
                self._storage.set_trial_intermediate_value(self._id(number), epoch, error)

    def _judgement(self, number: int, errors: dict[int, float]) -> dict[str, Any]:
        """What the pruner says of a trial with these errors, and what it would write into the trial."""
        study = self._copy()
        trial = copy.copy(study.get_trials(deepcopy=False)[number])
        trial.intermediate_values = errors
        pruned = study.pruner.prune(study, trial)
        marks = study.get_trials(deepcopy=False)[number].system_attrs
        return {"pruned": bool(pruned), "marks": dict(marks)}

    def _copy(self) -> optuna.Study:
        """The study as it is, in memory."""
        study = optuna.create_study(
            study_name=STUDY, sampler=self.study.sampler, pruner=self.study.pruner
        )
        study.add_trials(self.study.get_trials(deepcopy=False))
        return study

    def _trial(self, number: int) -> FrozenTrial:
        return self.study.get_trials(deepcopy=False)[number]

    def _id(self, number: int) -> int:
        study = self._storage.get_study_id_from_name(STUDY)
        return self._storage.get_trial_id_from_study_id_trial_number(study, number)
