"""Sweeps with seeds=until_decided: their comparisons, as the sweep itself decides them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from densenet_cli.decisions.comparison import Comparison
from densenet_cli.decisions.rounds import Design, Errors, Standing, standings
from densenet_cli.decisions.rule import UNDECIDED, Rule
from densenet_cli.options import OptionError, UserError, shown
from densenet_cli.plain_text import counted
from densenet_cli.record.sweep_file import UntilDecided, read_sweep
from densenet_cli.results.settings import Setting, measured

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sequential:
    """The comparisons of a sweep.

    Attributes:
        folder: the sweep's.
        fixed: from its sweep.yaml.
        comparisons: that of each setting with the sweep's baseline.
    """

    folder: Path
    fixed: UntilDecided
    comparisons: Mapping[Setting, Comparison]

    def facts(self) -> dict[str, Any]:
        """What decided them, for JSON."""
        return {
            "folder": str(self.folder),
            "settings": [setting.title for setting in self.comparisons],
            "looks": self.fixed.looks,
            "level": self.fixed.level,
            "margin_points": self.fixed.margin,
            "comparisons": len(self.fixed.settings) - 1,
        }

    def note(self) -> str:
        """A sentence on how they are decided."""
        looks = ", ".join(map(str, self.fixed.looks))
        number = counted(len(self.fixed.settings) - 1, "comparison")
        return (
            f"{self.folder} was run by seeds=until_decided: decided by a sequential t-test at {looks} "
            f"seeds, paired by seed, at most {100 * self.fixed.level:g} % for any false decision in "
            f"{number}. Its intervals hold at all looks and for all comparisons together; a p-value "
            "would not."
        )


def standing(fixed: UntilDecided, errors: Mapping[str, Errors]) -> dict[str, Standing]:
    """How far each comparison of a sweep has come.

    Args:
        fixed: from the sweep's sweep.yaml.
        errors: for the identity of each setting the reported test errors in percent of its finished
            runs by seed.

    Returns:
        One for each setting but the baseline, by the names in `fixed`.
    """
    rule = Rule(fixed.level, fixed.margin, comparisons=len(fixed.settings) - 1)
    design = Design(fixed.baseline, tuple(fixed.settings), fixed.first_seed, tuple(fixed.looks), rule)
    return standings(design, {name: errors.get(digest, {}) for name, digest in fixed.settings.items()})


def sequential(
    settings: Sequence[Setting], baseline: Setting, margin: float | None
) -> Sequential | None:
    """The comparisons that a sweep decides itself; None if the baseline's runs are of no such sweep.

    Settings that are not of the sweep, or have runs elsewhere, too, are not among them.

    Args:
        settings: any but the baseline.
        baseline: what they are compared with.
        margin: as typed; None if it was not.

    Raises:
        OptionError: if the margin is not that of the sweep.
    """
    folder = _folder(baseline)
    fixed = None if folder is None else read_sweep(folder).until_decided
    if folder is None or fixed is None:
        return None
    if _identity(baseline) != fixed.settings[fixed.baseline]:
        rule = f"added seeds by comparisons with {fixed.baseline}; p-values of others are not exact"
        log.warning("%s %s", folder, rule)
        return None
    own = [
        one for one in settings if _identity(one) in fixed.settings.values() and _folder(one) == folder
    ]
    if own and margin not in (None, fixed.margin):
        rule = f"{folder} was decided with sweep.margin={shown(fixed.margin)}, fixed before its runs"
        raise OptionError("--margin", margin, f"{rule}; leave it out")
    found = standing(fixed, {_identity(one): _errors(one) for one in [baseline, *own]})
    names = {digest: name for name, digest in fixed.settings.items()}
    return Sequential(folder, fixed, {one: _comparison(found[names[_identity(one)]]) for one in own})


def baseline_of(fixed: UntilDecided, settings: Sequence[Setting]) -> Setting:
    """The setting among some that is the baseline of a sweep; of several, on images that have changed
    since, the last one. Raises UserError if there is none.
    """
    found = [one for one in settings if _identity(one) == fixed.settings[fixed.baseline]]
    if not found:
        raise UserError(f"there is no run of the sweep's baseline yet, {fixed.baseline}")
    return max(found, key=lambda one: max(run.fields.get("started", "") for run in one.runs))


def _comparison(found: Standing) -> Comparison:
    decision = found.decision
    if decision is None:
        reason = f"the sweep looks at {counted(found.seeds, 'seed')} of both first"
        return Comparison(UNDECIDED, 0, 0, paired=True, reason=reason)
    reason = decision.reason
    if not found.ended:
        reason = f"{reason}; the sweep goes on, and looks at {counted(found.seeds, 'seed')} next"
    return Comparison(
        decision.word,
        decision.seeds,
        decision.seeds,
        paired=True,
        difference=decision.difference,
        low=decision.low,
        high=decision.high,
        reason=reason,
    )


def _identity(setting: Setting) -> str:
    return setting.runs[0].setting


def _folder(setting: Setting) -> Path | None:
    """The folder that holds the folders of all its runs."""
    folders = {run.folder.parent for run in setting.runs}
    return folders.pop() if len(folders) == 1 and not setting.averaged_over else None


def _errors(setting: Setting) -> Errors:
    errors = {run.seed: measured(run, "error") for run in setting.done}
    return {seed: error for seed, error in errors.items() if error is not None}
