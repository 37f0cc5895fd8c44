"""Checks of the values that a user types; each fails with one clear message."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from typing import Any

from densenet_cli.plain_text import printable


class UserError(Exception):
    """An error that the user can cause and correct; only its text is shown, without a traceback."""


class OptionError(UserError, ValueError):
    """A value the user typed breaks a rule.

    Args:
        key: the option's name in its section (`growth_rate`); `within` adds the section.
        value: as typed.
        rule: what the option may be, as the end of a sentence ("must be ...").
        example: a value that works; None if no such value can be known.
    """

    def __init__(self, key: str, value: Any, rule: str, example: Any = None) -> None:
        self.key, self.value, self.rule, self.example = key, value, rule, example
        hint = "" if example is None else f"; for example {key}={shown(example)}"
        super().__init__(f"{key}={printable(shown(value))}: {rule}{hint}")

    def __reduce__(self) -> tuple[Any, ...]:  # what crosses to another process
        return type(self), (self.key, self.value, self.rule, self.example)

    def within(self, section: str) -> OptionError:
        """The same error with the key that one types on the command line (`model.growth_rate`)."""
        return type(self)(f"{section}.{self.key}", self.value, self.rule, self.example)


def not_installed(needed_by: str, package: str, extra: str) -> UserError:
    """The error for a missing optional package.

    Args:
        needed_by: the option or command that needs it, as typed.
        package: its name.
        extra: the extra of densenet-cli that installs it.
    """
    install = f"pip install 'densenet-cli[{extra}]'"
    return UserError(f"{needed_by} needs the package {package}, which is not installed: {install}")


def shown(value: Any) -> str:
    """A value as it is typed on the command line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(shown(item) for item in value) + "]"
    return str(value)


def whole_number(key: str, value: Any, example: int, at_least: int = 1) -> int:
    """Return the value if it is an integer of `at_least` or more. Raises OptionError."""
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise OptionError(key, value, f"must be a whole number, {at_least} or more", example)
    return value


def number(
    key: str,
    value: Any,
    example: float,
    above: float = -math.inf,
    at_least: float = -math.inf,
    below: float = math.inf,
    at_most: float = math.inf,
) -> float:
    """Return the value if it is a finite number within the given bounds. Raises OptionError."""
    bounds = [
        f"{word} {bound:g}"
        for word, bound in (
            ("above", above),
            ("at least", at_least),
            ("below", below),
            ("at most", at_most),
        )
        if math.isfinite(bound)
    ]
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (
        is_number and math.isfinite(value) and above < value < below and at_least <= value <= at_most
    ):
        rule = " ".join(["must be a number", " and ".join(bounds)]).strip()
        raise OptionError(key, value, rule, example)
    return value


def switch(key: str, value: Any) -> bool:
    """Return the value if it is true or false. Raises OptionError."""
    if not isinstance(value, bool):
        raise OptionError(key, value, "must be true or false", True)
    return value


def choice(key: str, value: Any, choices: Sequence[Any]) -> Any:
    """Return the value if it is one of `choices`. Raises OptionError, with the nearest choice."""
    if value not in choices:
        near = nearest(str(value), map(str, choices))
        if len(choices) <= 12:
            rule = "must be one of " + ", ".join(shown(item) for item in choices)
        else:
            rule = f"is not one of the {len(choices)} known names"
        raise OptionError(key, value, rule, near or choices[0])
    return value


def nearest(word: str, words: Iterable[str]) -> str | None:
    """The one of `words` that is most similar to `word`; None if none is similar."""
    matches = difflib.get_close_matches(word, list(words), n=1, cutoff=0.6)
    return matches[0] if matches else None
