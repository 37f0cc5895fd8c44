"""Text, JSON and YAML files that any program may have written: read as plain data, or refused.

Only regular files of limited size are read, so that no device, pipe or endless file can make a command
hang. Their content consists of dictionaries, lists, text, numbers, true, false and null only.
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
LARGEST_YAML = 2_000_000  # bytes: about fifty thousand runs of a sweep; YAML is slow to read
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # five times as fast, where PyYAML has it
DEEPEST = 30  # levels of nesting
BITS = 64  # of an integer


class UnreadableFile(UserError):
    """A file that exists and cannot be used.

    Args:
        path: the file.
        reason: the rest of a sentence that begins with the path.
    """

    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"{path} {reason}")

    def __reduce__(self) -> tuple[Any, ...]:  # what crosses to another process
        return type(self), (self.path, self.reason)


def read_text(path: Path, largest: int = LARGEST) -> str:
    """The content of a UTF-8 file.

    Raises:
        FileNotFoundError: if the file does not exist.
        UnreadableFile: if it is not a regular file, larger than `largest` bytes, or not UTF-8 text.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnreadableFile(path, "cannot be read: it is not a regular file")
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
        raise UnreadableFile(path, f"cannot be read: it is not UTF-8 text: {error}") from None


def read_json(path: Path) -> Any:
    """The content of a JSON file; all its numbers are finite. Raises the errors of `read_text`."""
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
    """The content of a YAML file; aliases are refused. Raises the errors of `read_text`."""
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
    """Raise UnreadableFile if the value is not plain data, or is nested too deeply."""
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
            raise UnreadableFile(path, "cannot be read: it contains a number that is not finite")
    elif isinstance(value, int):
        if value.bit_length() > BITS:
            raise UnreadableFile(path, f"cannot be read: it contains a number of more than {BITS} bits")
    elif value is not None and not isinstance(value, str):
        reason = f"cannot be read: it contains a {type(value).__name__}, which is not plain data"
        raise UnreadableFile(path, reason)
