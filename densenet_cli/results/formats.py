"""A table of results for terminals, as Markdown and LaTeX to paste, as CSV and JSON to compute with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console, Group
from rich.table import Table as RichTable

from densenet_cli.figures import terminal
from densenet_cli.files.csv_file import csv_text
from densenet_cli.files.json_document import json_document
from densenet_cli.options import shown
from densenet_cli.plain_text import printable
from densenet_cli.results.columns import Row
from densenet_cli.results.records import Run
from densenet_cli.results.settings import measured
from densenet_cli.results.table import Table

FORMATS = ("rich", "csv", "json", "markdown", "latex")

# quantity -> NAME of its columns in CSV and JSON: NAME_mean, NAME_std, NAME_runs (all finished runs)
RAW_NAMES = {
    "error": "error_percent",
    "balanced": "balanced_error_percent",
    "auroc": "auroc",
    "f1": "f1",
    "error_last": "error_last_percent",
    "error_best": "error_best_percent",
    "validation_error": "validation_error_percent",
    "top5": "top5_error_percent",
    "parameters": "parameters",
    "multiply_adds": "multiply_adds",
    "seconds": "seconds",
    "train_seconds": "train_seconds",
    "train_multiply_adds": "train_multiply_adds",
    "train_epochs": "train_epochs",
    "images_per_second": "images_per_second",
    "peak_memory_bytes": "peak_memory_bytes",
    "energy_joules": "energy_joules",
}
TEXT_WIDTH = 22  # the minimum for a column of text
# On a terminal that is too narrow these columns are left out, in this order.
FIRST_LEFT_OUT = (
    "images/s",
    "multiply-adds",
    "memory",
    "top-5 %",
    "trained for",
    "trained with",
    "time",
    "validation %",
    "validation AUROC",
    "last %",
    "last AUROC",
    "best %",
    "best AUROC",
)
LATEX = {
    "\\": r"\textbackslash{}",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{letter: f"{{{letter}}}" for letter in "[]*"},  # after \\ they would be read as its arguments
    "|": r"\textbar{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "−": "$-$",
    "θ": r"$\theta$",
    "†": r"\dag{}",
    "‡": r"\ddag{}",
    "…": r"\dots{}",
}


def as_rich(table: Table, console: Console) -> Group:
    """For a terminal. Text wraps; if the terminal is too narrow, columns are left out and named."""
    left_out: list[str] = []
    for heading in FIRST_LEFT_OUT:
        if _width(table, left_out) <= console.width:
            break
        left_out += [heading] if heading in table.headings else []
    note = f"The terminal is too narrow for {', '.join(left_out)}."
    notes = [*table.notes, note] if left_out else table.notes
    return Group(_drawn(table, left_out), *map(terminal.plain, notes))


def _width(table: Table, left_out: Sequence[str]) -> int:
    """The minimum width of a table without some columns; text can wrap."""
    widths = []
    for heading, is_number, *cells in zip(table.headings, table.numeric, *table.rows, strict=True):
        if heading not in left_out:
            natural = max(map(cell_len, [heading, *cells]))
            widths.append(natural if is_number else min(natural, TEXT_WIDTH))
    return sum(widths) + 3 * len(widths) - 1  # gaps of three, and a margin


def _drawn(table: Table, left_out: Sequence[str]) -> RichTable:
    kept = [index for index, heading in enumerate(table.headings) if heading not in left_out]
    return terminal.table(
        [table.headings[index] for index in kept],
        [[cells[index] for index in kept] for cells in table.rows],
        text=[table.headings[index] for index in kept if not table.numeric[index]],
    )


def as_markdown(table: Table) -> str:
    """A table of GitHub's Markdown, notes below."""
    rule = ["---:" if is_number else "---" for is_number in table.numeric]
    lines = [map(_markdown, table.headings), rule, *(map(_markdown, cells) for cells in table.rows)]
    text = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
    return text + "".join(f"\n{_markdown(note)}\n" for note in table.notes)


def as_latex(table: Table) -> str:
    """A table for the package booktabs, notes below."""
    alignment = "".join("r" if is_number else "l" for is_number in table.numeric)
    lines = [" & ".join(map(_latex, cells)) + r" \\" for cells in [table.headings, *table.rows]]
    lines = [f"\\begin{{tabular}}{{{alignment}}}", r"\toprule", lines[0], r"\midrule", *lines[1:]]
    lines += [r"\bottomrule", r"\end{tabular}"]
    notes = "".join(f"\n\n{_latex(note)}" for note in table.notes)
    return "\n".join(lines) + notes + "\n"


def as_csv(rows: Sequence[Row]) -> str:
    """All that is known, unrounded, one row per setting. The names of the columns do not change.

    They are title, family, network, data, n, not_averaged, year, system, system_source, seeds; for each
    of RAW_NAMES the mean, the sample standard deviation and the values of all finished runs (separated
    by ";"); best_on_test, devices, published_error_percent, published_top5_error_percent,
    published_source, published_elsewhere, difference_points, why_not_compared, not_as_published;
    is_baseline, verdict, from_baseline_points, from_baseline_low_points, from_baseline_high_points,
    from_baseline_p_holm (null without --baseline); and the options in which the settings differ, by the
    names one types.
    """
    return csv_text(map(_csv_row, rows))


def as_json(rows: Sequence[Row]) -> str:
    """As `as_csv`, with each setting's runs in "runs" and its options in "options".

    "repeats" of a run names the run of the same seed that counts instead of it; null if it counts.
    """
    return json_document([_json_row(row) for row in rows])


def _csv_row(row: Row) -> dict[str, Any]:
    setting = row.setting
    cells = _named(row) | {"seeds": ";".join(shown(run.seed) for run in setting.done)}
    for quantity, name in RAW_NAMES.items():
        cells[f"{name}_mean"] = setting.mean(quantity)
        cells[f"{name}_std"] = setting.std(quantity)
        values = [measured(run, quantity) for run in setting.done]
        cells[f"{name}_runs"] = ";".join("" if value is None else str(value) for value in values)
    cells |= _judged(row)
    cells["published_elsewhere"] = [
        f"{one['error_percent']} {one['source']}" for one in cells["published_elsewhere"]
    ]
    for name in ("devices", "published_elsewhere", "not_as_published"):
        cells[name] = ";".join(cells[name])
    return cells | {name: shown(value) for name, value in setting.options.items()}


def _json_row(row: Row) -> dict[str, Any]:
    setting = row.setting
    spread = {
        f"{name}_{kind}": value
        for quantity, name in RAW_NAMES.items()
        for kind, value in (("mean", setting.mean(quantity)), ("std", setting.std(quantity)))
    }
    runs = [_json_run(run, setting.repeats.get(run)) for run in setting.runs]
    averaged = {"averaged_over": list(setting.averaged_over)}
    return _named(row) | spread | _judged(row) | averaged | {"options": setting.options, "runs": runs}


def _json_run(run: Run, repeated: Run | None) -> dict[str, Any]:
    known = {
        "folder": run.name,
        "seed": run.seed,
        "state": run.status,
        "reason": run.fields.get("error"),
        "repeats": repeated.name if repeated else None,
        "skipped_images": run.fields.get("skipped_images"),
    }
    return known | {name: measured(run, quantity) for quantity, name in RAW_NAMES.items()}


def _named(row: Row) -> dict[str, Any]:
    setting, system = row.setting, row.system
    return {
        "title": setting.title,
        "family": setting.family,
        "network": setting.network,
        "data": setting.data,
        "n": setting.n,
        "not_averaged": len(setting.runs) - setting.n,
        "year": system.year if system else None,
        "system": system.name if system else None,
        "system_source": system.source if system else None,
    }


def _judged(row: Row) -> dict[str, Any]:
    setting, comparison, decision = row.setting, row.comparison, row.decision
    found = comparison.published if comparison else None
    return {
        "best_on_test": setting.best_on_test,
        "devices": sorted({str(run.fields.get("device")) for run in setting.done}),
        "published_error_percent": found.error if found else None,
        "published_top5_error_percent": found.top5 if found else None,
        "published_source": found.source if found else None,
        "published_elsewhere": [
            {"error_percent": error, "source": source}
            for error, source in (found.elsewhere if found else ())
        ],
        "difference_points": comparison.difference if comparison else None,
        "why_not_compared": comparison.reason if comparison else None,
        "not_as_published": list(comparison.unlike) if comparison else [],
        "is_baseline": row.is_baseline,
        "verdict": decision.word if decision else None,
        "from_baseline_points": decision.difference if decision else None,
        "from_baseline_low_points": decision.low if decision else None,
        "from_baseline_high_points": decision.high if decision else None,
        "from_baseline_p_holm": decision.p_holm if decision else None,
    }


def _markdown(text: str) -> str:
    return re.sub(r"[\\`*_|<>\[\]&$~#!]", r"\\\g<0>", printable(text))


def _latex(text: str) -> str:
    escaped = "".join(LATEX.get(letter, letter) for letter in printable(text))
    return re.sub("-(?=-)", "-{}", escaped)  # LaTeX would set two hyphens as one dash
