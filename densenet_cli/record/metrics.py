"""Reads metrics.csv, the epochs of a run."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from densenet_cli.files.plain_file import UnreadableFile, read_text
from densenet_cli.record import schema

LARGEST_METRICS = 4_000_000  # bytes: some forty thousand epochs
MOST_COLUMNS = 200


def read_metrics(folder: Path) -> list[dict[str, float | None]]:
    """The rows of a run's metrics.csv, one per epoch; None where a cell is empty.

    Returns:
        No rows before the end of the first epoch.

    Raises:
        UnreadableFile: if the file is not a table of numbers.
    """
    path = folder / "metrics.csv"
    try:
        lines = csv.reader(io.StringIO(read_text(path, LARGEST_METRICS), newline=""))
        columns = next(lines, [])
        if len(columns) > MOST_COLUMNS:
            raise ValueError(f"it has {len(columns)} columns")
        shapes = [schema.metric(column) for column in columns]
        return [_numbers(columns, shapes, cells) for cells in lines if cells]
    except FileNotFoundError:
        return []
    except (ValueError, csv.Error) as error:
        raise UnreadableFile(path, f"cannot be read: {error}") from None


def _numbers(
    columns: Sequence[str], shapes: Sequence[schema.Shape], cells: Sequence[str]
) -> dict[str, float | None]:
    """A row by column; missing cells at its end count as empty."""
    if len(cells) > len(columns):
        raise ValueError("a row has more cells than there are columns")
    row: dict[str, float | None] = dict.fromkeys(columns)
    for column, shape, cell in zip(columns, shapes, cells, strict=False):
        if cell:
            row[column] = number = float(cell)
            if not shape.fits(number):
                raise ValueError(f"{column} is {cell}: must be {shape.rule}")
    return row
