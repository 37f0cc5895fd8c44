"""Where tables are shown."""

from __future__ import annotations

import re
from typing import TextIO

from rich.console import Console
from rich.text import Text

UNBOUNDED = 1000  # characters: nothing is cut or wrapped on its way to a file or another command


def console(file: TextIO | None = None) -> Console:
    """A file, or standard output: as wide as the terminal, or as wide as need be if it is none."""
    own = Console(file=file)
    return own if own.is_terminal else Console(file=file, width=UNBOUNDED)


def plain(text: str, style: str = "") -> Text:
    """What a record holds, for the terminal: neither markup nor control characters take effect."""
    return Text(re.sub(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", "?", text), style=style)
