"""Labels of images from one or several columns of a table.

One label an image: a column of names, or a column of 0 and 1 for each class (as ISIC's), one of which
is 1. Several labels: such columns (as CheXpert's), or one column of names between separators (as the
NIH's "Cardiomegaly|Effusion").
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from densenet_cli.data.table_rows import AUTO, LABELS, Rows, known_column, listed
from densenet_cli.options import OptionError

log = logging.getLogger(__name__)

NUMBERS = {"": np.nan, "0": 0.0, "0.0": 0.0, "1": 1.0, "1.0": 1.0, "-1": -1.0, "-1.0": -1.0}
NUMBERS |= {"true": 1.0, "false": 0.0}
SEPARATORS = {"bar": "|", "semicolon": ";", "comma": ",", "space": " "}
REFUSE, NEGATIVE, POSITIVE, IGNORE = "refuse", "negative", "positive", "ignore"
MEANINGS = {"uncertain": (REFUSE, NEGATIVE, POSITIVE, IGNORE), "missing": (REFUSE, NEGATIVE, IGNORE)}


@dataclass(frozen=True)
class LabelOptions:
    """How labels are read from a table; see ImageTable."""

    labels: str
    label_column: str | list[str]
    separator: str | None
    no_label: str | None
    uncertain: str
    missing: str
    known: tuple[str, ...] | None = None  # the classes of a network that is to be tested, if any


@dataclass(frozen=True)
class Labels:
    """The labels of all rows.

    Attributes:
        names: of the classes, sorted; numbers by value.
        values: (n,) int64, an index into the names; of several labels (n, classes) float32 of 0, 1 and,
            where a label is not known, NaN.
    """

    names: list[str]
    values: np.ndarray

    def present(self) -> np.ndarray:
        """Whether an image has a label: (n, classes) bool."""
        if self.values.ndim == 2:
            return self.values == 1
        return self.values[:, None] == np.arange(len(self.names))


def read_labels(rows: Rows, options: LabelOptions, others: Sequence[str]) -> Labels:
    """The labels of all rows.

    Args:
        rows: of the table.
        options: how labels are read.
        others: columns that hold no labels: those of paths, splits and groups.

    Raises:
        OptionError: a column is missing, or a label; or they do not fit the options.
    """
    columns = _columns(rows, options, others)
    if len(columns) > 1:
        log.info("labels: the columns %s", ", ".join(columns))
        values = np.stack([_numbers(rows, name) for name in columns], axis=1)
        names, values = (
            columns,
            _one_class(rows, columns, values)
            if options.labels == "single"
            else (_decided(rows, columns, values, options)),
        )
    elif options.labels == "single":
        names, values = _names(rows, columns[0], options)
    else:
        names, values = _separated(rows, columns[0], options)
    if options.known is not None:
        return _of_known(columns, Labels(names, values), options.known)
    if len(names) < 2:
        rule = f"has one class only, {listed(names)}; at least two are needed"
        if options.labels == "multi":
            rule = "has one label; type data.labels=single to tell images with it from those without"
        raise OptionError("label_column", listed(columns), rule)
    return Labels(names, values)


def _of_known(columns: list[str], labels: Labels, known: Sequence[str]) -> Labels:
    """The labels as those of a network, which must know them all.

    A label that no column is about is not known; one that a column of names does not have is absent.
    """
    if unknown := [name for name in labels.names if name not in known]:
        rule = (
            f"has classes that the network does not know: {listed(unknown)}; it knows {listed(known)}"
        )
        raise OptionError("label_column", listed(columns), rule)
    places = [known.index(name) for name in labels.names]
    if labels.values.ndim == 1:
        return Labels(list(known), np.array(places, dtype=np.int64)[labels.values])
    absent = np.nan if len(columns) > 1 else 0
    values = np.full((len(labels.values), len(known)), absent, dtype=np.float32)
    values[:, places] = labels.values
    return Labels(list(known), values)


def _columns(rows: Rows, options: LabelOptions, others: Sequence[str]) -> list[str]:
    typed = options.label_column
    if isinstance(typed, list):
        if not typed or len(set(typed)) < len(typed):
            raise OptionError("label_column", typed, "must name each column once", "[Edema,Pneumonia]")
        return [str(name) for name in typed]
    if typed != AUTO:
        return [typed]
    of_network = [name for name in options.known or () if name in rows.names()]
    if len(of_network) > 1:
        return of_network
    usual = known_column(rows, LABELS)
    if len(usual) == 1:
        log.info("labels: the column %s", usual[0])
        return usual
    columns = [name for name in rows.names() if name not in others]
    numbers = [name for name in columns if _is_numbers(rows.cells("label_column", name))]
    if len(numbers) > 1 and not usual:
        return numbers
    what = f"no column called {', '.join(LABELS[:4])} or the like; it has {', '.join(rows.names())}"
    if usual:
        what = f"several columns that may be it: {listed(usual)}"
    example = next((name for name in [*numbers, *usual, *columns]), None)
    raise OptionError("label_column", typed, f"{rows.tables[0].typed} has {what}", example)


def _is_numbers(cells: Sequence[str]) -> bool:
    """Whether a column says of each image whether it has a label."""
    found = {cell.lower() for cell in cells}
    return found <= NUMBERS.keys() and any(NUMBERS[cell] == 1 for cell in found)


def _numbers(rows: Rows, name: str) -> np.ndarray:
    """A column of 1, 0, -1 (uncertain) and blank cells (NaN) as float32."""
    cells = [cell.lower() for cell in rows.cells("label_column", name)]
    if wrong := [index for index, cell in enumerate(cells) if cell not in NUMBERS]:
        has = f"has {cells[wrong[0]]} in {rows.places(wrong)}"
        rule = f"one of several columns of labels must hold 0, 1, -1 (uncertain) or nothing; it {has}"
        raise OptionError("label_column", name, rule)
    return np.array([NUMBERS[cell] for cell in cells], dtype=np.float32)


def _one_class(rows: Rows, columns: list[str], values: np.ndarray) -> np.ndarray:
    """The class of each row, of which one column holds 1 and the others 0."""
    is_clear = ((values == 1).sum(axis=1) == 1) & ((values == 0).sum(axis=1) == len(columns) - 1)
    if len(wrong := np.flatnonzero(~is_clear)):
        rule = (
            f"data.labels=single needs a 1 in one of the columns and 0 in the others; {len(wrong):,} "
            f"of {len(values):,} rows differ: {rows.places(wrong)}; several labels: data.labels=multi"
        )
        raise OptionError("label_column", listed(columns), rule)
    return values.argmax(axis=1)


def _decided(rows: Rows, columns: list[str], values: np.ndarray, options: LabelOptions) -> np.ndarray:
    """The labels, with uncertain and missing ones as the options say."""
    for key, text, found in (
        ("uncertain", "uncertain (-1)", values == -1),
        ("missing", "missing", np.isnan(values)),
    ):
        meaning = getattr(options, key)
        if meaning == REFUSE and found.any():
            where = np.flatnonzero(found.any(axis=1))
            of = listed([name for name, one in zip(columns, found.any(axis=0), strict=True) if one])
            *most, last = MEANINGS[key][1:]
            count = f"{found.sum():,} of {values.size:,} labels"
            rule = (
                f"{count} are {text}, in {rows.places(where)} ({of}): "
                f"type data.{key}={', '.join(most)} or {last}, which leaves them out of loss and "
                "metrics"
            )
            raise OptionError(key, meaning, rule, NEGATIVE)
        values = np.where(found, {NEGATIVE: 0.0, POSITIVE: 1.0}.get(meaning, np.nan), values)
    return values.astype(np.float32)


def _names(rows: Rows, column: str, options: LabelOptions) -> tuple[list[str], np.ndarray]:
    """The classes in a column, and the class of each row."""
    cells = rows.cells("label_column", column)
    if blank := [index for index, cell in enumerate(cells) if not cell]:
        rule = f"{len(blank):,} of {len(cells):,} rows have no label: {rows.places(blank)}"
        raise OptionError("label_column", column, rule + "; complete or delete them")
    cells = _whole_numbers(cells)
    names = _sorted(set(cells))
    _warn_of_alike(column, names)
    if "|" in "".join(names):
        log.warning(
            "%s: names such as %s are each a class of their own; type data.labels=multi if they are "
            "several labels of one image",
            column,
            next(name for name in names if "|" in name),
        )
    number = {name: index for index, name in enumerate(names)}
    return names, np.array([number[cell] for cell in cells], dtype=np.int64)


def _whole_numbers(cells: list[str]) -> list[str]:
    """The cells; "1.0" is "1" if all are whole numbers, as programs write those beside empty cells."""
    plain = [cell.removesuffix(".0") for cell in cells]
    are_numbers = all(cell.lstrip("-").isdecimal() for cell in set(plain))
    return plain if are_numbers else cells


def _warn_of_alike(column: str, names: list[str]) -> None:
    """Warn of classes whose names differ only in capitals."""
    kinds: dict[str, list[str]] = {}
    for name in names:
        kinds.setdefault(name.casefold(), []).append(name)
    if alike := [" and ".join(own) for own in kinds.values() if len(own) > 1]:
        text = "%s: %s differ only in capitals, and are classes of their own"
        log.warning(text, column, listed(alike))


def _separated(rows: Rows, column: str, options: LabelOptions) -> tuple[list[str], np.ndarray]:
    """The labels in a column of names between separators, and which ones each row has."""
    cells = rows.cells("label_column", column)
    if _is_numbers(cells):
        rule = "is the column of one label; name several, or type data.labels=single for two classes"
        raise OptionError("label_column", column, rule, "[Edema,Pneumonia]")
    separator = _separator(column, cells, options)
    parts = [[one for part in cell.split(separator) if (one := part.strip())] for cell in cells]
    names = _sorted({name for row in parts for name in row} - {options.no_label})
    number = {name: index for index, name in enumerate(names)}
    values = np.zeros((len(cells), len(names)), dtype=np.float32)
    for index, row in enumerate(parts):
        if len(row) > 1 and options.no_label in row:
            rule = f"{rows.place(index)} has {cells[index]}: {options.no_label} and other labels"
            raise OptionError("label_column", column, rule)
        values[index, [number[name] for name in row if name != options.no_label]] = 1
    blank = np.array([[0.0 if row else np.nan] for row in parts])
    return names, values + _decided(rows, [column], blank, options)


def _separator(column: str, cells: Sequence[str], options: LabelOptions) -> str:
    """What stands between labels: as typed, or what is found of a bar, a semicolon and a comma."""
    if options.separator is not None:
        return SEPARATORS[options.separator]
    found = [
        name for name in ("bar", "semicolon", "comma") if any(SEPARATORS[name] in one for one in cells)
    ]
    if len(found) > 1:
        rule = f"the labels in {column} have several that may be it: {', '.join(found)}"
        raise OptionError("separator", None, rule, found[0])
    if not found:
        rule = f"no label in {column} has a bar, semicolon or comma in it"
        raise OptionError("separator", None, rule, "space")
    return SEPARATORS[found[0]]


def _sorted(names: set[str]) -> list[str]:
    """Sorted, by value if all are whole numbers."""
    are_numbers = all(name.lstrip("-").isdecimal() for name in names)
    return sorted(names, key=lambda name: (int(name), name)) if are_numbers else sorted(names)
