"""How tables look on a terminal."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from densenet_cli.plain_text import printable

UNBOUNDED = 1000  # characters: output to a file or another command is not wrapped


def console(file: TextIO | None = None) -> Console:
    """A console for standard output or a file: as wide as the terminal, or unbounded if it is none.

    Brackets and colons in the text are printed as they are, not read as markup.
    """
    options: dict[str, Any] = {"file": file, "markup": False, "emoji": False, "highlight": False}
    own = Console(**options)
    return own if own.is_terminal else Console(width=UNBOUNDED, **options)


def plain(text: str, style: str = "") -> Text:
    """Text from a record, for the terminal: neither markup nor control characters take effect."""
    return Text(printable(text), style=style)


def table(
    headings: Sequence[str], rows: Iterable[Sequence[str | Text]], text: Collection[str]
) -> Table:
    """A table in the one style that all commands share.

    Args:
        headings: one for each column.
        rows: a cell for each column; of a string neither markup nor control characters take effect.
        text: the headings of columns of text, which wrap where a terminal is narrow. All other columns
            hold numbers: they are aligned to the right and never wrap.
    """
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        if heading in text:
            drawn.add_column(plain(heading), overflow="fold")
        else:
            drawn.add_column(plain(heading), justify="right", no_wrap=True)
    for cells in rows:
        drawn.add_row(*(plain(cell) if isinstance(cell, str) else cell for cell in cells))
    return drawn
