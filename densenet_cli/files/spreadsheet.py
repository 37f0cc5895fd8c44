"""CSV whose cells a spreadsheet shows and never runs."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping
from typing import Any

from densenet_cli.plain_text import printable

RUN = "=+-@\t\r\n＝＋－＠"  # a cell that begins with one of these is taken for a formula
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def cell(value: Any) -> Any:
    """A value as it is written: a text that a spreadsheet would run gets an apostrophe before it.

    Numbers stay numbers, negative ones too; control characters are written as escapes.
    """
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if value[:1] in tuple(RUN) and not NUMBER.fullmatch(value) else text


def as_text(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows by column, the columns in order of first appearance, with a line of headings."""
    rows = list(rows)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(cell, columns))
    writer.writerows([cell(row.get(name)) for name in columns] for row in rows)
    return text.getvalue()
