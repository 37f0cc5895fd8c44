"""CSV in which a spreadsheet program finds no formula to run."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

from densenet_cli.plain_text import printable

FORMULA_STARTS = tuple("=+-@\t\r\n＝＋－＠")  # a spreadsheet takes a cell that starts so as a formula
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def csv_text(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as CSV, below a line of column names; the columns are in order of first appearance."""
    rows, text = list(rows), io.StringIO()
    columns = dict.fromkeys(name for row in rows for name in row)
    write_csv(({**columns, **row} for row in rows), text)
    return text.getvalue()


def write_csv(rows: Iterable[Mapping[str, Any]], file: TextIO) -> None:
    """Write each row as soon as it comes; the first one decides the columns. None is an empty cell."""
    writer = csv.writer(file, lineterminator="\n")
    for number, row in enumerate(rows):
        if number == 0:
            columns = list(row)
            writer.writerow(map(safe_cell, columns))
        writer.writerow([safe_cell(row[name]) for name in columns])


def safe_cell(value: Any) -> Any:
    """The value as it is written: text that a spreadsheet would run gets a leading apostrophe.

    Numbers, also negative ones, stay as they are; control characters become escapes.
    """
    if not isinstance(value, str):
        return value
    text = printable(value)
    is_formula = value.startswith(FORMULA_STARTS) and not NUMBER.fullmatch(value)
    return f"'{text}" if is_formula else text
