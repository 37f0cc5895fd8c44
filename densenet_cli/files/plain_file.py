"""Small files of text that anything may have written: read as plain data, or refused in one sentence.

They are read only if they are regular files of a reasonable size, so that no device, pipe or endless
file under such a name makes a command hang. What they hold is made of dictionaries, lists, texts,
numbers, true, false and null, and of nothing else.
"""

from __future__ import annotations

import json
import math
import stat
from pathlib import Path
from typing import Any

import yaml

from densenet_cli.options import UserError

LARGEST = 16_000_000  # bytes
LARGEST_YAML = 2_000_000  # some fifty thousand jobs; YAML is read slowly
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # five times as fast where it is there
DEEPEST = 30  # sections within sections
BITS = 64  # of a whole number


class UnreadableFile(UserError):
    """A file that is there and cannot be used.

    Args:
        path: the file.
        reason: the rest of a sentence that begins with the path.
    """

    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"{path} {reason}")


def read_text(path: Path, largest: int = LARGEST) -> str:
    """The content of a file in UTF-8.

    Raises:
        FileNotFoundError: there is none.
        UnreadableFile: it is no regular file, larger than `largest` bytes, or no text.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnreadableFile(path, "cannot be read: it is no regular file")
        with path.open("rb") as file:
            content = file.read(largest + 1)
        if len(content) > largest:
            reason = f"cannot be read: it is larger than {largest // 1_000_000} MB"
            raise UnreadableFile(path, reason)
        return content.decode()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UnreadableFile(path, f"cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise UnreadableFile(path, f"cannot be read: it is no text in UTF-8: {error}") from None


def read_json(path: Path) -> Any:
    """What a file of JSON holds; all numbers in it are finite. Raises as `read_text`."""
    text = read_text(path)
    try:
        content = json.loads(text)
    except RecursionError:
        raise UnreadableFile(path, "cannot be read: it is nested too deeply") from None
    except ValueError as error:
        raise UnreadableFile(path, f"cannot be read: {error}") from None
    _check_plain(path, content, finite=True)
    return content


def read_yaml(path: Path) -> Any:
    """What a file of YAML holds; aliases could make it endless. Raises as `read_text`."""
    text = read_text(path, LARGEST_YAML)
    try:
        for event in yaml.parse(text, _Loader):
            if isinstance(event, yaml.AliasEvent):
                raise UnreadableFile(path, f"cannot be read: aliases are not allowed (*{event.anchor})")
        content = yaml.load(text, _Loader)
    except RecursionError:
        raise UnreadableFile(path, "cannot be read: it is nested too deeply") from None
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise UnreadableFile(path, f"cannot be read: {' '.join(str(error).split())}") from None
    _check_plain(path, content, finite=False)
    return content


def _check_plain(path: Path, value: Any, finite: bool, depth: int = 0) -> None:
    """Raises UnreadableFile: the value holds something else, or is nested too deeply."""
    if depth > DEEPEST:
        raise UnreadableFile(path, "cannot be read: it is nested too deeply")
    if isinstance(value, dict):
        for key, item in value.items():
            _check_plain(path, key, finite, DEEPEST)
            _check_plain(path, item, finite, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check_plain(path, item, finite, depth + 1)
    elif isinstance(value, float):
        if finite and not math.isfinite(value):
            raise UnreadableFile(path, "cannot be read: it holds a number that is not finite")
    elif isinstance(value, int):
        if value.bit_length() > BITS:
            raise UnreadableFile(path, f"cannot be read: it holds a number of more than {BITS} bits")
    elif value is not None and not isinstance(value, str):
        reason = f"cannot be read: it holds {type(value).__name__}, which is no plain data"
        raise UnreadableFile(path, reason)
