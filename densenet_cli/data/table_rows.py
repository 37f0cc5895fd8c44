"""The rows of a table of images, and of a second one with the test images: cells, and their places."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from densenet_cli.data.photo import endings
from densenet_cli.data.table_file import Table
from densenet_cli.data.table_images import SAMPLE, NamedImages
from densenet_cli.options import OptionError, nearest
from densenet_cli.plain_text import printable

AUTO = "auto"
NAMED = 5  # at most so many rows, cells or groups in one message
LABELS = (
    *("label", "labels", "class", "classname", "category", "target", "diagnosis", "dx"),
    *("findinglabels", "level", "tags", "species", "breed"),
)
SPLITS = ("split", "partition", "subset", "set", "datasplit", "splitname")
GROUPS = ("patientid", "patient", "subjectid", "subject", "lesionid")  # the largest groups first
DICOM = (
    "names DICOM files, which are not read: convert them to 16-bit PNG, as by DCMTK's "
    "`dcmj2pnm --write-16-bit-png --min-max-window FILE.dcm FILE.png`"
)


@dataclass(frozen=True)
class Rows:
    """All rows, those of the table first.

    Attributes:
        tables: one or two.
    """

    tables: list[Table]

    def __len__(self) -> int:
        return sum(map(len, self.tables))

    def cells(self, key: str, name: object) -> list[str]:
        """The cells of the column that an option names. Raises OptionError if there is none."""
        for table in self.tables:
            if name not in table.columns:
                rule = f"{table.typed} has no such column; it has {', '.join(table.columns)}"
                raise OptionError(key, name, rule, nearest(str(name), table.columns))
        return [cell for table in self.tables for cell in table.columns[str(name)]]

    def names(self) -> list[str]:
        """The names of the columns that all tables have."""
        first, *others = self.tables
        return [name for name in first.columns if all(name in one.columns for one in others)]

    def place(self, index: int) -> str:
        """Where a row is: "row 17"; of the second table, "row 17 of test.csv"."""
        first = self.tables[0]
        if index < len(first):
            return f"row {index + first.first_row}"
        second = self.tables[1]
        return f"row {index - len(first) + second.first_row} of {second.typed}"

    def places(self, indices: Iterable[int]) -> str:
        """Where rows are: "row 17, row 19 and 3 more"."""
        return listed([self.place(index) for index in indices])


def listed(items: Sequence[object]) -> str:
    """The first items of a list, and how many more there are: "a, b and 3 more"."""
    shown = ", ".join(printable(item) for item in items[:NAMED])
    return f"{shown} and {len(items) - NAMED:,} more" if len(items) > NAMED else shown


def known_column(rows: Rows, known: Sequence[str]) -> list[str]:
    """The columns with one of these names, which have neither capitals, spaces nor underscores."""
    plain = {name: re.sub(r"[\W_]+", "", name).casefold() for name in rows.names()}
    return sorted((name for name in plain if plain[name] in known), key=lambda n: known.index(plain[n]))


def path_column(rows: Rows, typed: str, images: NamedImages) -> str:
    """The column with the names of the images: the one that an option names, or that names files.

    Raises:
        OptionError: there is no such column, or more than one.
    """
    if typed != AUTO:
        rows.cells("path_column", typed)
        return typed
    samples = {name: rows.tables[0].columns[name][:SAMPLE] for name in rows.names()}
    if any(cell.lower().endswith(".dcm") for cells in samples.values() for cell in cells):
        raise rows.tables[0].refused(DICOM)
    with_endings = [name for name, cells in samples.items() if all(map(_is_image, cells))]
    if len(with_endings) == 1:
        return with_endings[0]
    candidates = with_endings or [name for name in samples if _is_a_name(rows.tables[0], name)]
    found = [name for name in candidates if _name_files(samples[name], images)]
    if len(found) == 1:
        return found[0]
    table, folder = rows.tables[0].typed, images.folder
    if found:
        rule = f"{table} has several columns that name files in {folder}: {listed(found)}"
        raise OptionError("path_column", typed, rule, found[0])
    columns = ", ".join(f"{name} ({listed(cells[:1])})" for name, cells in samples.items())
    rule = f"no column of {table} names files in {folder}; its columns, with first cells: {columns}"
    raise OptionError("path_column", typed, rule)


def _is_image(cell: str) -> bool:
    return os.path.splitext(cell)[1].lower() in endings()


def _is_a_name(table: Table, column: str) -> bool:
    """Whether a column may name images: nearly every cell is another one."""
    cells = table.columns[column]
    return len(set(cells)) > 0.9 * len(cells)


def _name_files(cells: Sequence[str], images: NamedImages) -> bool:
    """Whether more than half of the cells name files."""
    return 2 * sum(map(bool, images.find(cells))) > len(cells)
