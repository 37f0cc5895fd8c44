"""Settings against a baseline: which setting that is, which others it can judge, and the decisions."""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from densenet_cli.decisions.comparison import Comparison, Errors, compare, holm
from densenet_cli.decisions.single_runs import Discordance, mcnemar
from densenet_cli.files.plain_file import UnreadableFile
from densenet_cli.options import OptionError, UserError, nearest, shown
from densenet_cli.record import outcomes
from densenet_cli.record.differences import acting_options, differing
from densenet_cli.record.identity import flat
from densenet_cli.record.trained_on import COMMON
from densenet_cli.results.records import Run, read_runs
from densenet_cli.results.settings import PSEUDO_OPTIONS, Setting, measured
from densenet_cli.results.until_decided import Sequential, sequential

log = logging.getLogger(__name__)

SHOWN = 6  # settings at most that an error names
SAME_IMAGES = {f"data.{name}" for name in COMMON if name not in ("validation", "hold_out")}


@dataclass(frozen=True)
class Verdict:
    """One setting against the baseline.

    Args:
        setting: it.
        comparison: of its errors with the baseline's.
        discordance: of the test images, if both have one run that kept its outcomes; else None.
        images: half of the width of a 95 % interval of the difference, in percent points, if the test
            images were others; None where a run kept no outcomes.
        discordance_p_holm: the p-value of `discordance`, corrected for all settings that have one.
    """

    setting: Setting
    comparison: Comparison
    discordance: Discordance | None = None
    images: float | None = None
    discordance_p_holm: float | None = None


@dataclass(frozen=True)
class Judged:
    """Settings that were compared with a baseline.

    Args:
        baseline: it.
        verdicts: one for each of the other settings that can be compared with it.
        margin: in percent points, as the user typed it.
        sequential: the sweep that decided some of them by seeds=until_decided; None if none did.
    """

    baseline: Setting
    verdicts: list[Verdict]
    margin: float | None = None
    sequential: Sequential | None = None

    def comparison(self, setting: Setting) -> Comparison | None:
        """That of a setting; None if there is none."""
        return next((one.comparison for one in self.verdicts if one.setting is setting), None)

    def words(self) -> dict[Setting, str]:
        """Each setting's word: that of its decision, or "baseline"."""
        return {self.baseline: "baseline"} | {one.setting: one.comparison.word for one in self.verdicts}


def find(settings: Sequence[Setting], text: str) -> Setting:
    """The setting that a user names.

    Args:
        settings: those there are.
        text: options as typed for its runs, separated by commas (model=resnet_20,epochs=10), its title
            or network as tables show it, or the folder of its runs.

    Raises:
        OptionError: if it is none of them, or several.
    """
    found = [setting for setting in settings if text in (setting.title, setting.network)]
    if not found and Path(text).is_dir():
        folders = {run.folder.resolve() for run in read_runs([Path(text)])[0]}
        found = [one for one in settings if folders & {run.folder.resolve() for run in one.runs}]
    if not found:
        items = re.split(r",(?![^\[({]*[\])}])", text)
        found = [one for one in settings if any(_was_typed(run, items) for run in one.runs)]
        found = _with_no_more(found, items) or found
    if len(found) == 1:
        return found[0]
    if not found:
        rule = f"is none of the {len(settings)} settings: {_titles(settings)}"
        raise OptionError("--baseline", text, rule, _nearest(settings, text))
    rule = f"matches {len(found)} settings: {_titles(found)}; name it by more options"
    raise OptionError("--baseline", text, rule, _narrower(found, text))


def judge(settings: Sequence[Setting], baseline: Setting, margin: float | None = None) -> Judged:
    """Decide about each setting but the baseline.

    A setting with other images is left out, with a warning that names the option. What a sweep with
    seeds=until_decided has decided itself is decided here as there.

    Args:
        settings: any; the baseline may be one of them.
        baseline: what they are compared with.
        margin: in percent points; see `decisions.comparison.compare`.

    Raises:
        UserError: if there is nothing to compare.
    """
    refused = {
        setting: difference
        for setting in settings
        if setting is not baseline and (difference := other_data(setting, baseline))
    }
    reasons = [
        f"{setting.title} cannot be compared with {baseline.title}: {difference}"
        for setting, difference in refused.items()
    ]
    others = [setting for setting in settings if setting is not baseline and setting not in refused]
    if not others:
        only = f"there is nothing to compare with {baseline.title}: no other setting was found"
        raise UserError(reasons[0] if reasons else only)
    for reason in reasons:
        log.warning("left out: %s", reason)
    by_sweep = sequential(others, baseline, margin)
    comparisons = dict(by_sweep.comparisons) if by_sweep else {}
    rest = [one for one in others if one not in comparisons]
    decided = compare([_errors(one) for one in rest], _errors(baseline), margin)
    comparisons |= dict(zip(rest, decided, strict=True))
    theirs = _wrong(baseline)
    verdicts = [Verdict(one, comparisons[one], *_of_images(_wrong(one), theirs)) for one in others]
    known = [one for one in verdicts if one.discordance]
    corrected = iter(holm([one.discordance.p for one in known if one.discordance]))
    return Judged(
        baseline,
        [
            replace(one, discordance_p_holm=next(corrected)) if one.discordance else one
            for one in verdicts
        ],
        margin,
        by_sweep,
    )


def other_data(setting: Setting, baseline: Setting) -> str | None:
    """How the images of two settings differ, by the option that says so; None if they do not."""
    one, other = setting.runs[0], baseline.runs[0]
    digests = _digest(setting), _digest(baseline)
    options = [_data_options(run, digests) for run in (one, other)]
    for name in differing(options):
        values = [shown(own[name]) if name in own else "unset" for own in options]
        return f"{name} is {values[0]} in one and {values[1]} in the other"
    if None not in digests and digests[0] != digests[1]:
        key = "data.table" if "table" in one.config["data"] else "data.root"
        return f"{key} held other images ({digests[0]} in one, {digests[1]} in the other)"
    return None


def _data_options(run: Run, digests: tuple[str | None, str | None]) -> dict[str, Any]:
    """The options that decide which images are trained on and tested with."""
    are_same = None not in digests and digests[0] == digests[1]
    names = ("data._target_", "data.validation", "trainer.limit_test_batches")
    return {
        name: value
        for name, value in acting_options(run.config).items()
        if name in names or (name.startswith("data.") and name not in SAME_IMAGES and not are_same)
    }


def _digest(setting: Setting) -> str | None:
    return next((run.images for run in setting.runs if run.images), None)


def _was_typed(run: Run, items: Sequence[str]) -> bool:
    """Whether a run has all options, as typed (model=resnet_20), as resolved, or its network's name."""
    typed, options = run.fields.get("overrides") or [], flat(run.config)

    def has(item: str) -> bool:
        key, _, value = item.strip().partition("=")
        if item.strip() in (*typed, PSEUDO_OPTIONS["network"](run)):
            return True
        if key in PSEUDO_OPTIONS and PSEUDO_OPTIONS[key](run) == value:
            return True
        names = [key] if key in options else [name for name in options if name.endswith(f".{key}")]
        return any(shown(options[name]) == value for name in names)

    return all(map(has, items))


def _with_no_more(settings: Sequence[Setting], items: Sequence[str]) -> list[Setting]:
    """Those for which these items were typed and, of options in which the settings differ, no others.

    recipe=a means recipe=a alone, not recipe=a recipe.mixup=0.
    """
    typed = [set(setting.runs[0].fields.get("overrides") or []) for setting in settings]
    of_all = set.intersection(*typed) if typed else set()
    asked = set(items)
    own = [{one for one in options - of_all if not one.startswith("seed=")} for options in typed]
    return [
        setting
        for setting, all_typed, options in zip(settings, typed, own, strict=True)
        if options <= asked <= all_typed
    ]


def _titles(settings: Sequence[Setting]) -> str:
    titles = [setting.title for setting in settings]
    left_out = [f"and {len(titles) - SHOWN} more"] if len(titles) > SHOWN else []
    return "; ".join([*titles[:SHOWN], *left_out])


def _narrower(found: Sequence[Setting], text: str) -> str:
    """The text with options that only the first one of some settings has."""
    options = [acting_options(setting.config) for setting in found]
    items = [f"{key}={shown(options[0][key])}" for key in differing(options) if key in options[0]]
    for more in [*([item] for item in items), items]:
        if not any(_was_typed(run, more) for other in found[1:] for run in other.runs):
            return ",".join([text, *more])
    return found[0].title


def _nearest(settings: Sequence[Setting], text: str) -> str:
    typed = {item for one in settings for run in one.runs for item in run.fields.get("overrides") or []}
    return nearest(text, typed) or shlex.quote(settings[0].title)


def _errors(setting: Setting) -> Errors:
    """The test errors of the finished runs by seeds."""
    errors = {run.seeds: measured(run, "error") for run in setting.done}
    return {seeds: error for seeds, error in errors.items() if error is not None}


def _wrong(setting: Setting) -> _Wrong | None:
    """Which test images the finished runs got wrong; None if one of them did not keep that."""
    kept = [_outcomes(run) for run in setting.done]
    known = [one.right for one in kept if one]
    if not known or len(known) < len(kept) or len({len(right) for right in known}) > 1:
        return None
    counted = np.ones(len(known[0]), dtype=bool)
    for one in kept:
        counted[list(one.skipped if one else ())] = False
    return _Wrong(~np.array(known), _digest(setting), counted)


class _Wrong(NamedTuple):
    """Whether each run got each image wrong, (runs, images).

    Attributes:
        digest: of the images.
        counted: the images that no run skipped, (images,) bool.
    """

    runs: np.ndarray
    digest: str | None
    counted: np.ndarray


def _outcomes(run: Run) -> outcomes.Outcomes | None:
    """What a run made of each image; None if it is not known to belong to its images and its error."""
    try:
        kept = outcomes.read(run.folder)
    except UnreadableFile as error:
        log.warning("left out: %s", error)
        return None
    recorded = measured(run, "error")
    is_its = kept and recorded is not None and abs(kept.error - recorded) < 1e-3
    return kept if kept and is_its and kept.digest and kept.digest == run.images else None


def _of_images(ours: _Wrong | None, theirs: _Wrong | None) -> tuple[Discordance | None, float | None]:
    """Verdict.discordance and Verdict.images, where both are known for the same images."""
    if ours is None or theirs is None or ours.digest != theirs.digest:
        return None, None
    if len(ours.counted) != len(theirs.counted):
        return None, None
    counted = ours.counted & theirs.counted
    images, own, others = int(counted.sum()), ours.runs[:, counted], theirs.runs[:, counted]
    if images < 2:
        return None, None
    differences = own.mean(0) - others.mean(0)  # of the mean errors on each image
    half = float(100 * 1.96 * np.std(differences, ddof=1) / np.sqrt(images))
    if len(own) > 1 or len(others) > 1:
        return None, half
    return mcnemar((~own[0]).tolist(), (~others[0]).tolist()), half
