"""The notes below decisions: what columns mean, what noise intervals cover, and what is open."""

from __future__ import annotations

from collections.abc import Sequence

from densenet_cli.decisions.rule import LEVEL, UNDECIDED
from densenet_cli.results.baseline import Judged, Verdict

SEVERAL_LABELS = (
    "100 − AUROC: 100 % minus the mean AUROC of the labels, the lower the better. No image is right or "
    "wrong as a whole: no outcomes are kept, and there is no McNemar's test."
)


def notes_on_decisions(judged: Judged) -> list[str]:
    """Sentences about what the columns mean, what the intervals cover, and why what is undecided."""
    verdicts = judged.verdicts
    tested = [one for one in verdicts if one.comparison.p is not None]
    found = [*_notes_on_tests(tested, judged.margin), *_notes_on_images(verdicts)]
    if judged.sequential and judged.sequential.comparisons:
        found.insert(0, judged.sequential.note())
    if judged.baseline.several_labels:
        found.append(SEVERAL_LABELS)
    reasons: dict[str, list[str]] = {}
    for one in verdicts:
        if one.comparison.word == UNDECIDED and (not tested or one.comparison.p is None):
            reasons.setdefault(one.comparison.reason, []).append(one.setting.title)
    found += [f"Undecided: {' | '.join(titles)}: {reason}." for reason, titles in reasons.items()]
    if any(one.comparison.word == UNDECIDED for one in tested):
        found.append(
            "more seeds: what each of the two needs for a decision with probability 80 %, if the true "
            "difference is the measured one; in brackets, if it is the end of the interval that is "
            "easiest to decide. It is a rough guide, since few seeds tell little about the spread. "
            "Decide again once all of them are there: tests after each run would find differences "
            "where there are none. A sweep with seeds=until_decided allows for that."
        )
    return found


def _notes_on_tests(tested: Sequence[Verdict], margin: float | None) -> list[str]:
    if not tested:
        return []
    unpaired = [one.setting.title for one in tested if not one.comparison.paired]
    how = "paired by seed"
    if unpaired:
        how = "unpaired (Welch), since few or no seeds are shared"
        how = how if len(unpaired) == len(tested) else f"paired by seed; {' | '.join(unpaired)}: {how}"
    corrected = f", corrected for {len(tested)} comparisons (Holm)" if len(tested) > 1 else ""
    equal = (
        f"equal: the difference is within ±{margin:g} points, by two one-sided tests"
        if margin is not None
        else "equal is said only within a margin: --margin 0.3"
    )
    return [
        f"difference: to the baseline in percent points, negative if the errors are lower; {how}.",
        f"95 % interval: covers the noise of training with other seeds{_of_images(tested)}.",
        f"p: of no difference, by a t-test{corrected}; better, worse: at most {LEVEL}; {equal}.",
    ]


def _of_images(tested: Sequence[Verdict]) -> str:
    """The noise of the test images: how large it is, if known."""
    widths = [one.images for one in tested if one.images is not None]
    if not widths:
        return ", not that of other test images"
    low, high = min(widths), max(widths)
    text = f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f} to {high:.2f}"
    return f", not that of other test images, which alone is ±{text}"


def _notes_on_images(verdicts: Sequence[Verdict]) -> list[str]:
    return [
        f"{one.setting.title}: {one.discordance.only_ours:,} test images are wrong only in its run, "
        f"{one.discordance.only_baseline:,} only in the baseline's: p={one.discordance_p_holm:.2g} by "
        "McNemar's exact test. It covers the noise of the test images, not that of training: other "
        "seeds may give another result."
        for one in verdicts
        if one.discordance
    ]
