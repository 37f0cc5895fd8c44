"""A table in a CSV or Parquet file, read as columns of text."""

from __future__ import annotations

import csv
import gzip
import io
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from densenet_cli.options import OptionError, not_installed

SEPARATORS = (",", ";", "\t")  # of cells; Excel writes semicolons where the comma is a decimal point
ENDINGS = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")
NO_VALUES = {"nan", "NaN", "<NA>", "#N/A"}  # how programs write an empty cell


@dataclass(frozen=True)
class Table:
    """The cells of a table as text without spaces around it; empty cells and NO_VALUES are "".

    Attributes:
        key: the option that names the file.
        typed: the value of this option, as typed.
        columns: the cells of each column by its name.
        first_row: the number of the first row below the names, as programs for tables count.
    """

    key: str
    typed: str
    columns: dict[str, list[str]]
    first_row: int

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def refused(self, rule: str, example: object = None) -> OptionError:
        """The error of a table that breaks a rule."""
        return OptionError(self.key, self.typed, rule, example)


def read_table(key: str, typed: str, path: Path) -> Table:
    """Read a file whose name ends in one of ENDINGS.

    Args:
        key, typed: the option that names the file, and its value, for messages.
        path: the file.

    Raises:
        OptionError: there is no such file, or it is not a table with names and rows.
        UserError: a Parquet file needs a package that is not installed.
    """
    name = path.name.lower()
    if not name.endswith(ENDINGS):
        *most, last = ENDINGS
        raise OptionError(key, typed, f"must end in {', '.join(most)} or {last}", "labels.csv")
    try:
        columns = _parquet(path) if name.endswith(".parquet") else _text(path)
    except OSError as error:
        rule = f"cannot be read ({error.strerror or error})"
        raise OptionError(key, typed, rule, "labels.csv") from error
    except _Malformed as error:
        raise OptionError(key, typed, str(error)) from error
    table = Table(key, typed, columns, 1 if name.endswith(".parquet") else 2)
    if not columns or not len(table):
        raise table.refused("has no rows below the names of its columns")
    return table


def read_lines(key: str, typed: str, path: Path) -> list[str]:
    """The lines of a text file that are not blank. Raises OptionError if it cannot be read."""
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except OSError as error:
        raise OptionError(key, typed, f"cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise OptionError(key, typed, "is not text in UTF-8") from error
    return [line.strip() for line in lines if line.strip()]


class _Malformed(ValueError):
    """What is wrong with a file, as the end of a sentence about it."""


def _text(path: Path) -> dict[str, list[str]]:
    is_packed = path.name.lower().endswith(".gz")
    try:
        content = gzip.decompress(path.read_bytes()) if is_packed else path.read_bytes()
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise _Malformed(f"is not in UTF-8 (line {line}); save it as CSV UTF-8") from error
    except (EOFError, gzip.BadGzipFile) as error:
        raise _Malformed(f"is not a whole gzip file ({error})") from error
    first = text.partition("\n")[0]
    is_tsv = path.name.lower().removesuffix(".gz").endswith(".tsv")
    delimiter = "\t" if is_tsv else max(SEPARATORS, key=first.count)
    # Text that occurs often, such as "1.0" and "", is kept once.
    known: dict[str, str] = dict.fromkeys(NO_VALUES, "")
    try:
        rows = [
            [known.setdefault(cell, cell) for cell in map(str.strip, row)]
            for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        ]
    except csv.Error as error:
        raise _Malformed(f"is not CSV ({error})") from error
    return _columns(rows)


def _columns(rows: list[list[str]]) -> dict[str, list[str]]:
    """The columns that have a name. Blank rows at the end are left out."""
    while rows and not any(rows[-1]):
        rows.pop()
    if not rows or not any(rows[0]):
        raise _Malformed("has no names of columns in its first row")
    names, width = rows[0], len(rows[0])
    twice = [name for name, count in Counter(names).items() if name and count > 1]
    if twice:
        raise _Malformed(f"has two columns called {twice[0]}")
    for number, row in enumerate(rows, start=1):
        if not row:
            raise _Malformed(f"has nothing in row {number}; delete such rows")
        if len(row) != width:
            raise _Malformed(f"has {width} columns in its first row and {len(row)} in row {number}")
    cells = list(zip(*rows[1:], strict=True)) or [()] * width
    return {name: list(column) for name, column in zip(names, cells, strict=True) if name}


def _parquet(path: Path) -> dict[str, list[str]]:
    try:
        import pyarrow
        from pyarrow import parquet, types
    except ImportError as error:
        raise not_installed(f"the table {path}", "pyarrow", "table") from error

    def is_text(kind: Any) -> bool:
        """Whether cells can be text: they hold neither bytes, nor columns of their own."""
        inner = kind.value_type if types.is_list(kind) or types.is_dictionary(kind) else kind
        return not (types.is_nested(inner) or types.is_binary(inner) or types.is_large_binary(inner))

    try:
        schema = parquet.read_schema(path)
        names = [field.name for field in schema if is_text(field.type)]
        table = parquet.read_table(path, columns=names)
    except pyarrow.ArrowInvalid as error:
        raise _Malformed(f"is not a Parquet file ({' '.join(str(error).split())})") from error
    cell: Callable[[Any], str] = _as_text
    return {name: list(map(cell, table[name].to_pylist())) for name in names}


def _as_text(value: Any) -> str:
    """A value of a Parquet file as CSV files have it; a list as text with bars between its items."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, list):
        return "|".join(map(_as_text, value))
    text = str(value).strip()
    return "" if text in NO_VALUES else text
