"""The notes below a table of results."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from densenet_cli.plain_text import counted
from densenet_cli.record.run_record import reported_checkpoint
from densenet_cli.results.columns import Row, on_cpu
from densenet_cli.results.records import Run
from densenet_cli.results.settings import Setting, measured
from densenet_cli.results.skipped import notes_on_skipped


def notes(found: Sequence[Row], shown: Collection[str]) -> list[str]:
    """Sentences about the columns shown: what the marks mean, and what cannot be compared."""
    done = [run for row in found for run in row.setting.done]
    return [
        *_notes_on_errors(found, shown),
        *_notes_on_averages(found),
        *notes_on_repeats([row.setting for row in found]),
        *notes_on_skipped([row.setting for row in found]),
        *_notes_on_devices(done, shown),
        *_notes_on_energy(found, done),
        *_notes_on_papers(found),
        *_notes_on_years(found),
    ]


def _notes_on_errors(found: Sequence[Row], shown: Collection[str]) -> list[str]:
    notes = []
    if {"error", "auroc"} & set(shown):
        by_validation = [
            reported_checkpoint(run.fields) == "best" for row in found for run in row.setting.done
        ]
        epoch = "of the last epoch"
        if any(by_validation):
            epoch = "of the epoch with the lowest validation error"
            epoch += "" if all(by_validation) else ", or of the last epoch where it equals last %"
        spread = any(row.setting.std("error") is not None for row in found)
        runs = "runs" if any(row.setting.averaged_over for row in found) else "seeds"
        deviation = f"; mean ± sample standard deviation over n {runs}" if spread else ""
        if "auroc" in shown:
            epoch = epoch.replace("lowest validation error", "best validation result")
        name = {(True, False): "error: test error", (False, True): "AUROC: of the test images"}.get(
            ("error" in shown, "auroc" in shown), "error, AUROC: of the test images"
        )
        notes.append(f"{name} {epoch}{deviation}.")
    if "balanced" in shown:
        notes.append(
            "balanced: the mean over the classes of each one's test error, where they differ in size."
        )
    if "auroc" in shown:
        notes.append(
            "AUROC, F1: of images that can have several labels, averaged over the labels; F1 of those "
            "with a probability above 0.5."
        )
    if any(row.setting.best_on_test and row.setting.values("error_best") for row in found):
        what = "best test result" if "auroc" in shown else "lowest test error"
        notes.append(f"† {what} of any epoch: chosen by the test images, so not to be reported.")
    return notes


def _notes_on_averages(found: Sequence[Row]) -> list[str]:
    names = list(dict.fromkeys(name for row in found for name in row.setting.averaged_over))
    return [f"Each row averages over different values of {', '.join(names)}."] if names else []


def notes_on_repeats(settings: Sequence[Setting]) -> list[str]:
    """A sentence about the runs that do not count, because the same seed was run before."""
    repeats = [pair for setting in settings for pair in setting.repeats.items()]
    if not repeats:
        return []
    repeat, counted = repeats[0]
    runs = "1 run is" if len(repeats) == 1 else f"{len(repeats)} runs are"
    return [
        f"{runs} not averaged, since the same seed of the same setting finished before: "
        f"{'' if len(repeats) == 1 else 'for example, '}{repeat.name} repeats {counted.name}."
    ]


def _notes_on_devices(done: Sequence[Run], shown: Collection[str]) -> list[str]:
    notes = []
    devices = sorted({str(run.fields["device"]) for run in done if run.fields.get("device")})
    if len(devices) > 1 and {"time", "speed", "memory", "energy"} & set(shown):
        notes.append(
            "Time, images/s and memory cannot be compared: they were measured on different devices "
            f"({'; '.join(devices)})."
        )
    if any(on_cpu(run) and measured(run, "peak_memory_bytes") for run in done):
        notes.append("‡ memory of the whole process, on a CPU; on a GPU it is what the allocator held.")
    return notes


def _notes_on_energy(found: Sequence[Row], done: Sequence[Run]) -> list[str]:
    if not any(row.energy for row in found):
        return []
    notes = []
    if any(measured(run, "energy_joules") is not None for run in done):
        notes.append(
            "energy: of the GPUs that trained, or of the whole processor packages, while training and "
            "evaluating; with all else that ran on them."
        )
    unknown = [run for run in done if measured(run, "energy_joules") is None]
    reasons = sorted({run.fields.get("energy_unknown") or "not recorded" for run in unknown})
    if unknown:
        notes.append(f"Energy is unknown of {counted(len(unknown), 'run')}: {'; '.join(reasons)}.")
    return notes


def _notes_on_papers(found: Sequence[Row]) -> list[str]:
    matched = [(row.title, row.comparison) for row in found if row.comparison]
    compared = [(title, one, one.published) for title, one in matched if one.published]
    sources = dict.fromkeys(entry.source for _, _, entry in compared)
    notes = [f"published: {'; '.join(sources)}."] if sources else []
    elsewhere: dict[str, list[str]] = {}
    unlike: dict[str, list[str]] = {}
    for title, one, entry in compared:
        for error, source in entry.elsewhere:
            elsewhere.setdefault(source, []).append(f"{title}, {entry.data}: {error:g}")
        for text in one.unlike:
            unlike.setdefault(text, []).append(title)
    notes += [
        f"In brackets, of the same published runs: {'; '.join(own)} ({source})."
        for source, own in elsewhere.items()
    ]
    for text, own in unlike.items():
        whose = "" if len(own) == len(compared) else f" ({' | '.join(dict.fromkeys(own))})"
        notes.append(f"Not as published: {text}{whose}.")
    return notes + _why_not_compared(found)


def _why_not_compared(found: Sequence[Row]) -> list[str]:
    titles: dict[str, list[str]] = {}
    for row in found:
        if row.comparison and row.comparison.reason:
            titles.setdefault(row.comparison.reason, []).append(row.title)
    return [f"No published error for {' | '.join(own)}: {why}." for why, own in titles.items()]


def _notes_on_years(found: Sequence[Row]) -> list[str]:
    sources = {row.system.name: row.system.source for row in found if row.system}
    if not sources:
        return []
    texts = "; ".join(f"{name}, {source}" for name, source in sources.items())
    return [f"year: when the architecture first appeared, preprints included: {texts}."]
