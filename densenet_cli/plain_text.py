"""Text from users, files and records, made safe to show: terminals and pages obey nothing in it."""

from __future__ import annotations

import argparse
import codecs
import logging
import os
import re
from pathlib import Path
from typing import Any, NoReturn

UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # control characters
    "\u2028\u2029\u202a-\u202e\u2066-\u2069"  # line separators, changes of the writing direction
    "\ud800-\udfff\ufffe\uffff]"  # surrogates, and what XML does not allow
)
LONGEST_TITLE = 120  # characters
SIMILAR = {"†": "*", "‡": "#", "−": "-", "–": "-", "×": "x"}  # of the same width, in ASCII


def _similar(error: UnicodeError) -> tuple[str, int]:
    """For text that a terminal's encoding lacks: similar characters, or question marks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(SIMILAR.get(character, "?") for character in lacking), error.end


AS_SIMILAR = "densenet_cli.similar"  # errors= of a stream
codecs.register_error(AS_SIMILAR, _similar)


def printable(text: object, keep: str = "") -> str:
    r"""The text with control characters as escapes: "\x1b[31m", "\n", "caf\xe9"; the rest is unchanged.

    Args:
        text: any object; `str` makes it text.
        keep: control characters that are kept.
    """
    return UNPRINTABLE.sub(lambda found: found[0] if found[0] in keep else _escape(found[0]), str(text))


def as_title(text: object, longest: int = LONGEST_TITLE) -> str:
    """A name as `printable` returns it, shortened to the space in a table or figure."""
    return shortened(printable(text), longest)


def shortened(text: str, longest: int) -> str:
    """The text, or its beginning and "…": `longest` characters at most."""
    return text if len(text) <= longest else text[: longest - 1].rstrip(" ,") + "…"


def first_line(text: object) -> str:
    """The first line of a text; of an error's message, or the error's type if it has no message."""
    line = str(text).strip().partition("\n")[0].rstrip()
    return type(text).__name__ if not line and isinstance(text, BaseException) else line


def last_line(text: str) -> str:
    """The last line of a text, such as the error at the end of a traceback."""
    return text.strip().rpartition("\n")[2].lstrip()


def counted(number: int, noun: str) -> str:
    """A number of things: "1 run", "2 runs"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def in_json(text: str) -> str:
    """The same JSON, with the control characters in its strings as escapes."""
    return UNPRINTABLE.sub(
        lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", text
    )


class Parser(argparse.ArgumentParser):
    """An argument parser whose error messages are printable, and for which ~ is the home folder.

    Shells do not replace the ~ in --output=~/figures. The epilog may be a function that returns the
    text, called for --help only.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.register("type", Path, lambda text: Path(os.path.expanduser(text)))

    def format_help(self) -> str:
        """The text that --help prints."""
        if callable(self.epilog):
            self.epilog = self.epilog()
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        """Show the usage and the message, and exit with status 2."""
        super().error(printable(message))


class Formatter(logging.Formatter):
    """Formats log messages without control characters, so that a terminal can show the log."""

    def format(self, record: logging.LogRecord) -> str:
        """The message, perhaps with a traceback, as lines of text."""
        return printable(super().format(record), keep="\n\t")


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()
