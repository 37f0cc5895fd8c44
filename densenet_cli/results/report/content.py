"""The texts and numbers of the report, for the template to lay out."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any

import yaml

from densenet_cli import units
from densenet_cli.options import shown
from densenet_cli.record.run_record import now
from densenet_cli.results.baseline import Judged
from densenet_cli.results.columns import COLUMNS, Row
from densenet_cli.results.records import Run
from densenet_cli.results.settings import Setting, measured
from densenet_cli.results.table import rows, table
from densenet_cli.units import duration


@dataclass(frozen=True)
class Cell:
    """A cell of the table: its text, and the number or text that its column is sorted by."""

    text: str
    key: str
    is_number: bool


@dataclass(frozen=True)
class Line:
    """A setting: its row of the table, and the details that open below the row."""

    cells: list[Cell]
    published: str
    command: str
    runs: list[dict[str, str]]
    config: str


def summary(settings: Sequence[Setting], runs: Sequence[Run]) -> dict[str, str]:
    """Title and first sentences of the page, date and version."""
    done = [run for run in runs if run.status == "done"]
    seconds = sum(measured(run, "seconds") or 0.0 for run in runs)
    devices = _distinct(run.fields.get("device") for run in runs)
    families = _distinct(item.family for item in settings)
    sentences = [
        f"{_number(len(settings), 'setting')} of {_listed(families)}.",
        f"{len(done):,} of {_number(len(runs), 'run')} finished; {_hours(seconds)}"
        + (f" on {_listed(devices)}." if devices else "."),
    ]
    return {
        "title": f"Test {_measure(settings)} on {_listed(_distinct(item.data for item in settings))}",
        "text": " ".join(sentences),
        "date": now()[:10],
        "version": metadata.version("densenet-cli"),
    }


def results_table(
    settings: Sequence[Setting], runs: Sequence[Run], judged: Judged | None = None
) -> dict[str, Any]:
    """The table of `densenet-results table --paper`, each row with its runs and configuration."""
    found = rows(settings, paper=True, judged=judged)
    shown_rows = [
        row if row.comparison and row.comparison.published else replace(row, comparison=None)
        for row in found
    ]
    texts = table(shown_rows, judged)
    columns = {column.heading: column for column in COLUMNS.values()}
    numbers = _environment_numbers(runs)
    lines = [
        Line(
            cells=[
                Cell(text, _key(columns[heading].key(row)), columns[heading].is_number)
                for heading, text in zip(texts.headings, own, strict=True)
            ],
            published=_published(row),
            command=_command(row.setting.runs[0]),
            runs=[_run(run, numbers, run in row.setting.repeats) for run in row.setting.runs],
            config=yaml.safe_dump(row.setting.config, sort_keys=False, allow_unicode=True),
        )
        for row, own in zip(found, texts.rows, strict=True)
    ]
    headings = [{"text": text, "is_number": columns[text].is_number} for text in texts.headings]
    return {"headings": headings, "lines": lines, "notes": texts.notes}


def unfinished(settings: Sequence[Setting]) -> list[dict[str, str]]:
    """The runs that count in no mean, and why."""
    return [
        {
            "setting": setting.title,
            "data": setting.data,
            "seed": shown(run.seed),
            "status": run.status,
            "epoch": f"{run.fields.get('epoch', 0)} of {run.fields.get('epochs', '?')}",
            "reason": _reason(run),
            "folder": run.name,
        }
        for setting in settings
        for run in setting.runs
        if run.status != "done"
    ]


def _reason(run: Run) -> str:
    """Why a run has no result; empty if its status says it."""
    if run.status == "pruned":
        return "its search ended it early: other trials had lower held-out errors"
    return str(run.fields.get("error") or "") if run.status == "failed" else ""


def environments(runs: Sequence[Run]) -> list[dict[str, str]]:
    """The different environments (device, host, commit, versions), and how many runs each had."""
    counts: dict[int, int] = {}
    facts: dict[int, dict[str, str]] = {}
    numbers = _environment_numbers(runs)
    for run in runs:
        number = numbers[shown(_environment(run).items())]
        counts[number] = counts.get(number, 0) + 1
        facts[number] = _environment(run)
    return [{"number": str(i), "runs": str(counts[i]), **facts[i]} for i in sorted(facts)]


def _environment(run: Run) -> dict[str, str]:
    fields = run.fields
    facts = {
        "device": fields.get("device"),
        "processes": fields.get("processes"),
        "precision": fields.get("precision"),
        "host": fields.get("host"),
        "commit": fields.get("git"),
        **fields.get("versions", {}),
    }
    return {str(name): str(value) for name, value in facts.items() if value is not None}


def _environment_numbers(runs: Sequence[Run]) -> dict[str, int]:
    texts = _distinct(shown(_environment(run).items()) for run in runs)
    return {text: number for number, text in enumerate(texts, start=1)}


def _published(row: Row) -> str:
    found = row.comparison
    if found is None or found.published is None:
        return f"No published error to compare with: {found.reason}." if found else ""
    published = found.published
    others = "".join(f", {error:g} % ({source})" for error, source in published.elsewhere)
    unlike = f" Not as published: {'; '.join(found.unlike)}." if found.unlike else ""
    return (
        f"Published: {published.error:.2f} % ({published.source}){others}; "
        f"ours differs by {units.difference(found.difference or 0.0)}.{unlike}"
    )


def _command(run: Run) -> str:
    return shlex.join(["densenet-run", *run.fields["overrides"]]) if "overrides" in run.fields else ""


def _run(run: Run, numbers: dict[str, int], is_repeated: bool) -> dict[str, str]:
    errors = {name: measured(run, name) for name in ("error", "error_last", "error_best")}
    seconds = measured(run, "seconds")
    return {
        "seed": shown(run.seed),
        "status": "repeated" if is_repeated else run.status,
        **{name: "" if value is None else run.shown_error(value) for name, value in errors.items()},
        "time": "" if seconds is None else duration(seconds),
        "device": str(run.fields.get("device", "")),
        "environment": str(numbers[shown(_environment(run).items())]),
        "folder": run.name,
    }


def _key(value: Any) -> str:
    """The text that a column is sorted by; empty for no value, which goes last."""
    if isinstance(value, (int, float)):
        return repr(float(value)) if math.isfinite(value) else ""
    return "" if value is None else str(value)


def _hours(seconds: float) -> str:
    if seconds < 5400:
        return f"{_number(round(seconds / 60), 'minute')} of computing"
    return f"{_number(round(seconds / 3600), 'hour')} of computing"


def _number(count: int, word: str) -> str:
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def _listed(words: Sequence[str]) -> str:
    """A list in words: "a", "a and b", "a, b and c"; of a long one the first eight."""
    words = [*words[:8], f"{len(words) - 8} more"] if len(words) > 9 else list(words)
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _measure(settings: Sequence[Setting]) -> str:
    """What the settings' results are called."""
    words = _distinct("AUROC" if item.several_labels else "error" for item in settings if item.done)
    return " and ".join(sorted(words, reverse=True)) or "error"


def _distinct(values: Any) -> list[str]:
    return list(dict.fromkeys(str(value) for value in values if value is not None))
