"""A figure with the data it shows, and how both are saved as files."""

from __future__ import annotations

import io
import re
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
        figure: as matplotlib drew it.
        points: the data shown, one dictionary per point; the CSV file beside the figure holds them.
        note: the caption, one or two sentences: what is shown, over how many seeds.
    """

    figure: Figure
    points: list[dict[str, Any]]
    note: str

    def save(self, stem: Path, formats: Sequence[str]) -> list[Path]:
        """Write the figure as stem.FORMAT and its points as stem.csv; return the files written.

        Args:
            stem: the path without an ending.
            formats: some of FORMATS.

        Raises:
            UserError: if a file cannot be written.
        """
        paths = []
        for form in formats:
            paths.append(stem.with_name(f"{stem.name}.{form}"))
            replace_file(paths[-1], partial(self._write, form))
        paths.append(stem.with_name(f"{stem.name}.csv"))
        replace_file(paths[-1], csv_text(self.points))
        return paths

    def document(self, name: str, files: Iterable[Path] = ()) -> dict[str, Any]:
        """The caption, the points and the files for a JSON document."""
        return {
            "name": name,
            "note": self.note,
            "files": list(map(str, files)),
            "points": self.points,
        }

    def svg(self, transparent: bool = True) -> str:
        """The figure as SVG, by default on a transparent background."""
        return _compact(self._drawn("svg", transparent).decode())

    def _write(self, form: str, file: BinaryIO) -> None:
        file.write(self.svg(transparent=False).encode() if form == "svg" else self._drawn(form))

    def _drawn(self, form: str, transparent: bool = False) -> bytes:
        file = io.BytesIO()
        with style.styled():
            self.figure.savefig(
                file, format=form, metadata=_WITHOUT_DATE[form], transparent=transparent
            )
        return file.getvalue()


def output_formats(names: Iterable[str]) -> tuple[list[str], bool]:
    """What --format names: the file formats of figures, and whether json is among them.

    With json, standard output is a JSON document; with json alone, no file is written.

    Raises:
        OptionError: there is no such format.
    """
    chosen = [choice("--format", name, (*FORMATS, "json")) for name in names]
    return [name for name in chosen if name != "json"], "json" in chosen


def _compact(svg: str) -> str:
    """The same SVG with each path, text and row of markers on one line, and at most two decimals."""
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(?<= )[dxy]="[^"]*"|translate\([^)]*\)', _shortened, svg)
    svg = re.sub(r'<path d="([^"]{200,})"([^>]*)/>\s*<path d="\1"([^>]*)/>', _defined_once, svg)
    return re.sub(r"\s*\n\s*(?=<use |</|<defs>|<g>|<g (?!id=)|<!--)", "", svg)


def _shortened(attribute: re.Match[str]) -> str:
    one_line = " ".join(attribute[0].split())
    return re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", one_line)


def _defined_once(twins: re.Match[str]) -> str:
    """Two equal paths, a text and its outline, as two uses of one definition."""
    shape, name = twins[1], f"shape_{twins.start()}"
    uses = "".join(f'<use xlink:href="#{name}"{attributes}/>' for attributes in twins.groups()[1:])
    return f'<defs><path id="{name}" d="{shape}"/></defs>{uses}'


def grouped(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """The items that share a key, by that key, in order of first appearance."""
    groups: dict[Key, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups
