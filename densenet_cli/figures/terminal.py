"""Where tables are shown."""

from __future__ import annotations

from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from densenet_cli.plain_text import printable

UNBOUNDED = 1000  # characters: nothing is cut or wrapped on its way to a file or another command


def console(file: TextIO | None = None) -> Console:
    """A file, or standard output: as wide as the terminal, or as wide as need be if it is none.

    Brackets and colons in what is printed are no markup.
    """
    options: dict[str, Any] = {"file": file, "markup": False, "emoji": False, "highlight": False}
    own = Console(**options)
    return own if own.is_terminal else Console(width=UNBOUNDED, **options)


def plain(text: str, style: str = "") -> Text:
    """What a record holds, for the terminal: neither markup nor control characters take effect."""
    return Text(printable(text), style=style)
