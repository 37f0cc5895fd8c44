"""A drawn figure with the points it was made of, and how both become files."""

from __future__ import annotations

import io
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from densenet_cli.figures import (
    own_matplotlib,  # noqa: F401 -- before all that need it
    style,
)
from densenet_cli.files.atomic_file import replace_file
from densenet_cli.files.csv_file import csv_text
from densenet_cli.options import choice

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")
FORMATS = ("png", "svg", "pdf")
_WITHOUT_DATE: dict[str, dict[str, None]] = {
    "png": {},
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
}


@dataclass(frozen=True)
class Drawing:
    """One figure.

    Args:
        figure: as matplotlib draws it.
        points: what is drawn, a dictionary a point; columns of the CSV file beside the figure.
        note: one or two sentences for a caption: what is shown, over how many seeds.
    """

    figure: Figure
    points: list[dict[str, Any]]
    note: str


def by(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """The items that share a key, under that key, in order of first appearance."""
    groups: dict[Key, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def svg(drawing: Drawing) -> str:
    """A drawing as SVG on a transparent ground."""
    text = io.BytesIO()
    with style.styled():
        _save(drawing, "svg", text, transparent=True)
    return text.getvalue().decode()


def _save(drawing: Drawing, form: str, file: BinaryIO, transparent: bool = False) -> None:
    drawing.figure.savefig(file, format=form, metadata=_WITHOUT_DATE[form], transparent=transparent)


def write(drawing: Drawing, stem: Path, formats: Sequence[str]) -> list[Path]:
    """Write one figure as stem.FORMAT and its points as stem.csv; the files written.

    Raises:
        UserError: if a format is unknown, or the files cannot be written.
    """
    paths = []
    for form in formats:
        choice("format", form, FORMATS)
        paths.append(stem.with_name(f"{stem.name}.{form}"))
        with style.styled():
            replace_file(paths[-1], partial(_save, drawing, form))
    paths.append(stem.with_name(f"{stem.name}.csv"))
    replace_file(paths[-1], csv_text(drawing.points))
    return paths
