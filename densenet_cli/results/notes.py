"""What must be said below a table of results."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from densenet_cli.record.run_record import reported
from densenet_cli.results.columns import Row, on_cpu
from densenet_cli.results.records import Run
from densenet_cli.results.settings import Setting, measured

REPEATS_NAMED = 10


def notes(found: Sequence[Row], shown: Collection[str]) -> list[str]:
    """Sentences on the columns shown: what the marks mean, and what does not compare."""
    done = [run for row in found for run in row.setting.done]
    return [
        *_notes_on_errors(found, shown),
        *_notes_on_averages(found),
        *on_repeats([row.setting for row in found]),
        *_notes_on_devices(done, shown),
        *_notes_on_papers(found),
        *_notes_on_years(found),
    ]


def _notes_on_errors(found: Sequence[Row], shown: Collection[str]) -> list[str]:
    notes = []
    if "error" in shown:
        by_validation = [reported(run.fields) == "best" for row in found for run in row.setting.done]
        epoch = "of the last epoch"
        if any(by_validation):
            epoch = "of the epoch with the lowest validation error"
            epoch += "" if all(by_validation) else ", or of the last one where that equals last"
        spread = any(row.setting.std("error") is not None for row in found)
        runs = "runs" if any(row.setting.averaged_over for row in found) else "seeds"
        deviation = f"; mean ± sample standard deviation over n {runs}" if spread else ""
        notes.append(f"error: test error {epoch}{deviation}.")
    if any(row.setting.best_on_test and row.setting.values("error_best") for row in found):
        notes.append("† the lowest of all epochs, chosen by the test images: no result to report.")
    return notes


def _notes_on_averages(found: Sequence[Row]) -> list[str]:
    names = list(dict.fromkeys(name for row in found for name in row.setting.averaged_over))
    return [f"Rows average over runs with different {', '.join(names)}."] if names else []


def on_repeats(settings: Sequence[Setting]) -> list[str]:
    """A sentence on the runs that do not count since their seed was run before; empty if none was."""
    repeats = [pair for setting in settings for pair in setting.repeats.items()]
    if not repeats:
        return []
    texts = [f"{run.name} repeats {counted.name}" for run, counted in repeats[:REPEATS_NAMED]]
    texts += [f"and {len(repeats) - REPEATS_NAMED} more"] if len(repeats) > REPEATS_NAMED else []
    return [f"Each seed of a setting counts once, by the run that ended first: {', '.join(texts)}."]


def _notes_on_devices(done: Sequence[Run], shown: Collection[str]) -> list[str]:
    notes = []
    devices = sorted({str(run.fields["device"]) for run in done if run.fields.get("device")})
    if len(devices) > 1 and {"time", "speed", "memory"} & set(shown):
        notes.append(f"Time, images/s and memory do not compare: measured on {'; '.join(devices)}.")
    if any(on_cpu(run) and measured(run, "peak_memory_bytes") for run in done):
        notes.append("‡ of the whole process, on a CPU; elsewhere what the GPU's allocator held.")
    return notes


def _notes_on_papers(found: Sequence[Row]) -> list[str]:
    compared = [row for row in found if row.comparison]
    matched = [
        row.comparison.published for row in compared if row.comparison and row.comparison.published
    ]
    sources = dict.fromkeys(published.source for published in matched)
    notes = [f"published: {'; '.join(sources)}."] if sources else []
    runs = [
        run
        for row in compared
        if row.comparison and row.comparison.published
        for run in row.setting.done
    ]
    precisions = sorted({str(run.fields.get("precision")) for run in runs} - {"32-true", "None"})
    if precisions:
        notes.append(f"Ours in {', '.join(precisions)}, the published ones in 32 bits.")
    if any(run.config["data"].get("verify") is False for run in runs):
        notes.append("Some runs read other files than the official ones (data.verify=false).")
    return notes + _why_not_compared(compared)


def _why_not_compared(compared: Sequence[Row]) -> list[str]:
    titles: dict[str, list[str]] = {}
    for row in compared:
        if row.comparison and row.comparison.reason:
            titles.setdefault(row.comparison.reason, []).append(row.setting.title)
    return [f"No published figure beside {' | '.join(own)}: {why}." for why, own in titles.items()]


def _notes_on_years(found: Sequence[Row]) -> list[str]:
    sources = {row.system.name: row.system.source for row in found if row.system}
    texts = [f"{name}, {source}" for name, source in sources.items()]
    return [f"year: of first appearance, a preprint too: {'; '.join(texts)}."] if texts else []
