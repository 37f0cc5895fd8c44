"""densenet-results decide: for each setting, whether its errors are lower than those of a baseline."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import compress
from pathlib import Path
from typing import Any

from densenet_cli import units
from densenet_cli.decisions.comparison import CONFIDENCE, Comparison
from densenet_cli.decisions.rule import LEVEL, UNDECIDED
from densenet_cli.files.csv_file import csv_text
from densenet_cli.options import UserError, shown
from densenet_cli.plain_text import in_json
from densenet_cli.record.run_record import finite
from densenet_cli.results.baseline import Judged, Verdict, find
from densenet_cli.results.columns import interval
from densenet_cli.results.decision_notes import notes_on_decisions
from densenet_cli.results.notes import notes_on_repeats
from densenet_cli.results.records import Run
from densenet_cli.results.settings import Setting, settings
from densenet_cli.results.skipped import notes_on_skipped
from densenet_cli.results.table import Table

FORMAT = 1  # of the JSON; raised when a key changes its meaning


def two(
    words: Sequence[str], read: Callable[[Sequence[Path]], list[Run]]
) -> tuple[list[Setting], Setting]:
    """The two settings of `decide A B`, and which one is the baseline: B.

    Args:
        words: two folders with the runs of one setting each; or two settings as `baseline.find` takes
            them, and the folders to search for them, if any; default: outputs.
        read: the runs below some folders.

    Raises:
        UserError: if these are not two settings.
    """
    folders = [Path(word) for word in words if Path(word).is_dir()]
    names = [word for word in words if not Path(word).is_dir()]
    if len(names) == 2:
        found = settings(read(folders or [Path("outputs")]))
        chosen = [find(found, name) for name in names]
        if chosen[0] is chosen[1]:
            raise UserError(f"{' and '.join(names)} name the same setting, {chosen[0].title}")
        return chosen, chosen[1]
    if names or len(folders) != 2:
        raise UserError(
            f"decide {' '.join(words)}: name two folders or two settings (decide A B), or folders and "
            "--baseline SETTING"
        )
    runs = [read([folder]) for folder in folders]
    chosen = [_only(folder, settings(own)) for folder, own in zip(folders, runs, strict=True)]
    together = settings([run for own in runs for run in own])
    if len(together) == 2:  # their titles then say how they differ
        return together, together[1]
    return chosen, chosen[1]


def _only(folder: Path, found: Sequence[Setting]) -> Setting:
    if len(found) == 1:
        return found[0]
    raise UserError(
        f"{folder} holds {len(found)} settings, and one is needed; name a folder below it, or compare "
        f"all of them: densenet-results decide {folder} --baseline '{found[0].title}'"
    )


def as_table(judged: Judged) -> Table:
    """One row for the baseline and one for each setting; what the columns mean, below."""
    error = "100 − AUROC, %" if judged.baseline.several_labels else "error %"
    headings = ["network", "data", error, "n", "difference", "95 % interval", "p", "verdict"]
    headings.append("more seeds")
    rows = [[*_cells(judged.baseline), "", "", "", "baseline", ""]]
    rows += [
        [*_cells(one.setting), *_judgement(one.comparison), _more(one.comparison)]
        for one in judged.verdicts
    ]
    known = [any(row[column] for row in rows) for column in range(len(headings))]
    headings, *rows = [list(compress(row, known)) for row in (headings, *rows)]
    numeric = [heading not in ("network", "data", "verdict") for heading in headings]
    compared = [judged.baseline, *(one.setting for one in judged.verdicts)]
    notes = [*notes_on_decisions(judged), *notes_on_repeats(compared), *notes_on_skipped(compared)]
    return Table(headings, numeric, rows, notes)


def _cells(setting: Setting) -> list[str]:
    mean = setting.mean("error")
    error = "" if mean is None else units.percent(mean, setting.std("error"))
    return [setting.title, setting.data, error, str(setting.n)]


def _judgement(found: Comparison) -> list[str]:
    """Difference, interval, p after Holm, and word, as tables show them."""
    p = "" if found.p_holm is None else "<0.001" if found.p_holm < 0.001 else f"{found.p_holm:.2g}"
    difference = "" if found.difference is None else units.difference(found.difference)
    return [difference, interval(found), p, found.word]


def _more(found: Comparison) -> str:
    """Further seeds: "12 (5)", the second if the difference is as easy to decide as it may be."""
    if found.word != UNDECIDED or found.p is None:
        return ""
    likely, at_least = (
        "over 1,000" if n is None else f"{n:,}" for n in (found.further, found.further_at_least)
    )
    return likely if likely == at_least else f"{likely} ({at_least})"


def as_csv(judged: Judged) -> str:
    """One row per setting, unrounded; the columns are the keys of a comparison in `as_json`."""
    return csv_text(_flat_row(one, judged.baseline) for one in judged.verdicts)


def _flat_row(one: Verdict, baseline: Setting) -> dict[str, Any]:
    row = {"baseline": baseline.title} | _row(one)
    row["mcnemar_p_holm"] = (row.pop("mcnemar") or {}).get("p_holm")
    options = row.pop("options")
    row["seeds"] = ";".join(map(shown, row["seeds"]))
    return row | {name: shown(value) for name, value in options.items()}


def as_json(judged: Judged) -> str:
    """The decisions, unrounded: errors in percent, differences ours − baseline in percent points.

    {"format": 1, "level": 0.05, "correction": "holm", "confidence": 0.95, "margin_points": null,
    "covers": "seeds", "baseline": SETTING, "comparisons": [SETTING with the keys of `compared`,
    test_images_points and mcnemar, …]}, where SETTING has the keys of `_facts`. "sequential" is null,
    or has the facts about a sweep with seeds=until_decided: it decides its comparisons, by no p.

    `mcnemar` is null, or has only_ours_wrong, only_baseline_wrong, p and p_holm; `test_images_points`
    is half of the width of a 95 % interval for other test images. What is not known is null.
    """
    content = {
        "format": FORMAT,
        "level": LEVEL,
        "correction": "holm",
        "confidence": CONFIDENCE,
        "margin_points": judged.margin,
        "covers": "seeds",
        "sequential": judged.sequential.facts() if judged.sequential else None,
        "baseline": _facts(judged.baseline),
        "comparisons": [_row(one) for one in judged.verdicts],
    }
    return in_json(json.dumps(finite(content), indent=2, ensure_ascii=False)) + "\n"


def _facts(setting: Setting) -> dict[str, Any]:
    return {
        "title": setting.title,
        "network": setting.network,
        "data": setting.data,
        "n": setting.n,
        "seeds": [run.seed for run in setting.done],
        "error_percent_mean": setting.mean("error"),
        "error_percent_std": setting.std("error"),
        "options": setting.options,
    }


def _row(one: Verdict) -> dict[str, Any]:
    discordance = one.discordance
    mcnemar = discordance and {
        "only_ours_wrong": discordance.only_ours,
        "only_baseline_wrong": discordance.only_baseline,
        "p": discordance.p,
        "p_holm": one.discordance_p_holm,
    }
    return (
        _facts(one.setting)
        | compared(one.comparison)
        | {
            "test_images_points": one.images,
            "mcnemar": mcnemar,
        }
    )


def compared(found: Comparison) -> dict[str, Any]:
    """The keys of a comparison, as CSV and JSON have them."""
    return {
        "verdict": found.word,
        "paired": found.paired,
        "n_used": found.n,
        "n_baseline_used": found.n_baseline,
        "difference_points": found.difference,
        "low_points": found.low,
        "high_points": found.high,
        "p": found.p,
        "p_holm": found.p_holm,
        "p_equal_holm": found.p_equal_holm,
        "reason": found.reason or None,
        "further_seeds": found.further,
        "further_seeds_at_least": found.further_at_least,
    }
