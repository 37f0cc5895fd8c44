"""The table of results: one row per setting, with the columns for which there are data."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from densenet_cli.options import OptionError, nearest
from densenet_cli.record.run_length import is_in_parts
from densenet_cli.results.columns import COLUMNS, UNDER_A_BUDGET, Row
from densenet_cli.results.notes import notes
from densenet_cli.results.published import compare
from densenet_cli.results.settings import Setting
from densenet_cli.results.systems import system_of

if TYPE_CHECKING:
    from densenet_cli.results.baseline import Judged


@dataclass(frozen=True)
class Table:
    """The texts of a table, ready for any format.

    Args:
        headings: of the columns.
        numeric: for each column, whether it is aligned to the right.
        rows: the cells, row by row.
        notes: sentences below the table.
    """

    headings: list[str]
    numeric: list[bool]
    rows: list[list[str]]
    notes: list[str]


def rows(
    settings: Sequence[Setting],
    paper: bool = False,
    years: bool = False,
    sort: str | None = None,
    judged: Judged | None = None,
    energy: bool = False,
) -> list[Row]:
    """The rows in order.

    Args:
        settings: from `settings.settings`.
        paper: whether to look up published errors.
        years: whether to look up the architecture of each network and the year it appeared.
        sort: the name of a column, with "-" before it for descending; rows without a value in that
            column go last. None: "year" if `years`, else no column. Rows that are equal in it are
            sorted by data set, family and parameters, as papers do.
        judged: the baseline and the decisions, if settings were compared with one.
        energy: whether to show the energy of training.

    Raises:
        OptionError: if there is no such column.
    """
    if sort is None and years:
        sort = "year"
    name = (sort or "").removeprefix("-")
    years = years or name in ("year", "system")
    energy = energy or name == "energy"
    found = sorted((_row(one, paper, years, judged) for one in settings), key=_as_papers_do)
    found = _named([replace(row, energy=energy) for row in found])
    if sort is None:
        return found
    if name not in COLUMNS:
        rule = "must be one of " + ", ".join(COLUMNS)
        raise OptionError("--sort", sort, rule, nearest(name, COLUMNS) or "error")
    key = COLUMNS[name].key
    known = [row for row in found if key(row) is not None]
    unknown = [row for row in found if key(row) is None]
    return sorted(known, key=key, reverse=sort.startswith("-")) + unknown


def _row(setting: Setting, paper: bool, years: bool, judged: Judged | None) -> Row:
    return Row(
        setting,
        comparison=compare(setting) if paper else None,
        system=system_of(setting.family) if years else None,
        decision=judged.comparison(setting) if judged else None,
        is_baseline=judged is not None and setting is judged.baseline,
    )


def _named(found: Sequence[Row]) -> list[Row]:
    """The rows; those that are compared with a published error by whose protocol they followed."""
    words = [
        f"{row.setting.network}, as {row.comparison.published.authors}"
        if row.comparison and row.comparison.published and row.setting.title != row.setting.network
        else None
        for row in found
    ]
    counts = Counter((row.setting.data, own) for row, own in zip(found, words, strict=True))
    return [
        replace(row, as_published=own) if counts[row.setting.data, own] == 1 else row
        for row, own in zip(found, words, strict=True)
    ]


def table(found: Sequence[Row], judged: Judged | None = None) -> Table:
    """The columns for which there are data, and the notes about them."""
    shown = {name: column for name, column in COLUMNS.items() if any(map(column.text, found))}
    if all(row.setting.values("error") == row.setting.values("error_last") for row in found):
        shown.pop("last", None)
        shown.pop("last_auroc", None)
    if not any(is_in_parts(row.setting.config) for row in found):
        for name in UNDER_A_BUDGET:
            shown.pop(name, None)
    return Table(
        headings=[column.heading for column in shown.values()],
        numeric=[column.is_number for column in shown.values()],
        rows=[[column.text(row) for column in shown.values()] for row in found],
        notes=[*notes(found, shown), *_notes_on_decisions(judged)],
    )


def _notes_on_decisions(judged: Judged | None) -> list[str]:
    if judged is None:
        return []
    from densenet_cli.results.decision_notes import notes_on_decisions  # loads scipy

    return notes_on_decisions(judged)


def _as_papers_do(row: Row) -> tuple[Any, ...]:
    setting = row.setting
    return setting.data, setting.family, setting.mean("parameters") or math.inf, setting.title
