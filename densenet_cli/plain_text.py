"""Names from users, files and records, made so that no terminal, figure or page obeys them."""

from __future__ import annotations

import argparse
import logging
import os
import re
from pathlib import Path
from typing import Any, NoReturn

UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # control characters
    "\u2028\u2029\u202a-\u202e\u2066-\u2069"  # ends of lines, turns of the direction of writing
    "\ud800-\udfff\ufffe\uffff]"  # halves of pairs, and what XML does not allow
)
LONGEST_TITLE = 120  # characters


def printable(text: object, keep: str = "") -> str:
    r"""A text with its control characters as escapes: "\x1b[31m", "\n", "caf\xe9"; all else as it is.

    Args:
        text: anything, as `str` writes it.
        keep: control characters that stay.
    """
    return UNSEEN.sub(lambda found: found[0] if found[0] in keep else _escape(found[0]), str(text))


def as_title(text: object, longest: int = LONGEST_TITLE) -> str:
    """A name as `printable` writes it, shortened to what a table or figure has room for."""
    return shortened(printable(text), longest)


def shortened(text: str, longest: int) -> str:
    """The text, or its beginning and "…": `longest` characters at most."""
    return text if len(text) <= longest else text[: longest - 1].rstrip(" ,") + "…"


def first_line(text: object) -> str:
    """The first line of a text; of an error's message, or the error's type if it has no message."""
    line = str(text).strip().partition("\n")[0].rstrip()
    return type(text).__name__ if not line and isinstance(text, BaseException) else line


def last_line(text: str) -> str:
    """The last line of a text that is not empty, as that of a traceback."""
    return text.strip().rpartition("\n")[2].lstrip()


def counted(number: int, noun: str) -> str:
    """A number of things: "1 run", "2 runs"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def in_json(text: str) -> str:
    """JSON of several lines whose strings show no control character as it is."""
    return UNSEEN.sub(lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", text)


class Parser(argparse.ArgumentParser):
    """Complains of wrong words without obeying them; in a path ~ stands for the home folder.

    Shells leave it as it is in --output=~/figures.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.register("type", Path, lambda text: Path(os.path.expanduser(text)))

    def error(self, message: str) -> NoReturn:
        """Show the usage and the message, and exit with status 2."""
        super().error(printable(message))


class Formatter(logging.Formatter):
    """Formats messages without control characters, so that a log can be shown on a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """The lines of a message."""
        return printable(super().format(record), keep="\n\t")


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()
