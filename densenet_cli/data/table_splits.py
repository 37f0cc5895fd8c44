"""Which rows of a table are training, validation and test images, and which belong together."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from densenet_cli.data.folder_layout import ROLES
from densenet_cli.data.table_rows import AUTO, GROUPS, SPLITS, Rows, known_column, listed
from densenet_cli.options import OptionError

log = logging.getLogger(__name__)

SPELLINGS = ROLES | {"validate": "validation", "dev": "validation"}
PATIENT = r"(?i)\b(?:patient|subject|sub)[-_]?\d+"  # in CheXpert's paths


@dataclass(frozen=True)
class Groups:
    """Which images belong together, as those of one patient.

    Attributes:
        kind: the column that says so, or the pattern.
        names: the group of each row.
        numbers: (n,) int64, the same for rows of one group.
    """

    kind: str
    names: list[str]
    numbers: np.ndarray


def split_column(rows: Rows, typed: str | None) -> str | None:
    """The column that the option split_column names; None: there is none."""
    first = Rows(rows.tables[:1])
    if typed == AUTO:
        return next(iter(known_column(first, SPLITS)), None)
    if typed is not None:
        first.cells("split_column", typed)
    return typed


def read_splits(
    rows: Rows, column: str | None, test: np.ndarray | None, to_train: bool = True
) -> np.ndarray:
    """The split of each row: "train", "validation" or "test"; or "all" of each if nothing says it.

    Args:
        rows: of the table.
        column: says it.
        test: (n,) whether a row is a test image by another file; None: no other file says it.
        to_train: whether there must be training images.

    Raises:
        OptionError: a cell is no split, or the splits are not complete.
    """
    table = rows.tables[0]
    splits = np.full(len(rows), "train", dtype="<U10")
    if column is not None:
        cells = np.array(table.columns[column])
        meanings = {str(cell): SPELLINGS.get(str(cell).lower()) for cell in np.unique(cells)}
        if unknown := [cell or "blank cells" for cell, split in meanings.items() if split is None]:
            rule = f"has {listed(unknown)}; it must hold train, val and test, or be left out"
            raise OptionError("split_column", column, rule, "null")
        splits[: len(table)] = [meanings[cell] for cell in table.columns[column]]
    if test is not None:
        if (both := (splits == "test") & ~test).any():
            rule = f"and data.test_table both name test images: {rows.places(np.flatnonzero(both))}"
            raise OptionError("split_column", column, rule, "null")
        splits[test] = "test"
    kinds = set(splits.tolist())
    if "train" not in kinds and to_train:
        raise table.refused(f"has no training images, only {' and '.join(sorted(kinds))} images")
    if kinds == {"train"}:
        splits[:] = "all"
    elif "test" not in kinds:
        log.info("no test images: the validation images are the test images")
        splits[splits == "validation"] = "test"
    return splits


def read_groups(
    rows: Rows, typed: str | None, pattern: str | None, paths: Sequence[str]
) -> Groups | None:
    """The group of each row; None if the images stand each for itself.

    Args:
        rows: of the table.
        typed: the option group_column.
        pattern: the option group_pattern: what is common to a group in the text of the column, or in
            the names of the images.
        paths: the names of the images.

    Raises:
        OptionError: there is no such column, or the pattern is wrong or is not found in a row.
    """
    kind, cells = "", list(paths)
    if typed == AUTO:
        kind = next(iter(known_column(rows, GROUPS)), "") if pattern is None else ""
        if not kind and pattern is None:
            if not all(re.search(PATIENT, path) for path in paths):
                return None
            pattern = PATIENT
    elif typed is None:
        if pattern is None:
            return None
    else:
        kind = typed
    if kind:
        cells = rows.cells("group_column", kind)
    if pattern is not None:
        cells = _matches(rows, cells, pattern)
    # an image without a group stands for itself
    names = [cell or f"alone: {name}" for cell, name in zip(cells, paths, strict=True)]
    _, numbers = np.unique(names, return_inverse=True)
    kind = kind or ("patients in the names of the images" if pattern == PATIENT else str(pattern))
    found = Groups(kind, names, numbers.astype(np.int64))
    log.info("groups: %s, %d of them", found.kind, numbers.max() + 1)
    return found


def refuse_broken(rows: Rows, groups: Groups, splits: np.ndarray) -> None:
    """Raise OptionError if images of one group are in several splits."""
    pairs = np.unique(np.stack([groups.numbers, np.unique(splits, return_inverse=True)[1]]), axis=1)
    numbers, counts = np.unique(pairs[0], return_counts=True)
    broken = numbers[counts > 1]
    if not len(broken):
        return
    shown = []
    for number in broken.tolist():
        members = np.flatnonzero(groups.numbers == number)
        shown.append(f"{groups.names[members[0]]} ({', '.join(sorted(set(splits[members])))})")
    rule = (
        f"{len(broken):,} of {len(numbers):,} groups stand in several splits: {listed(shown)}; the "
        "measured errors would be too low. Change the splits, or ignore the groups"
    )
    raise OptionError("group_column", groups.kind, rule, "null")


def _matches(rows: Rows, cells: Sequence[str], pattern: str) -> list[str]:
    """What a pattern finds in each cell; its first group if it has any in brackets."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        rule = f"is not a regular expression ({error})"
        raise OptionError("group_pattern", pattern, rule, r"'patient\d+'") from error
    found = [compiled.search(cell) for cell in cells]
    if missing := [index for index, one in enumerate(found) if one is None]:
        rule = f"is not found in {len(missing):,} of {len(cells):,} rows: "
        rule += f"{rows.places(missing)} ({cells[missing[0]]})"
        raise OptionError("group_pattern", pattern, rule)
    return [one[1 if compiled.groups else 0] or "" for one in found if one is not None]
