"""Makes what a section of the configuration describes by its `_target_`."""

from __future__ import annotations

import contextlib
import functools
import inspect
import pkgutil
from collections.abc import Iterable, Iterator
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from densenet_cli.options import OptionError, UserError, nearest


def build(section: str, options: dict[str, Any], **given: Any) -> Any:
    """Call the section's target with the section's options.

    Args:
        section: the section's name, for messages: a wrong option is called `section.option`.
        options: `_target_` and its arguments.
        given: further arguments, which no user types.

    Raises:
        UserError: if the target can't be found, has no such option, or refuses a value.
    """
    _check_names(section, options, given)
    try:
        return instantiate(options, **given, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, OptionError):
            raise cause.within(section) from error
        if isinstance(cause, UserError):
            raise cause from error
        reason = str(cause or error).split("\n", maxsplit=1)[0]
        raise UserError(f"{section} ({options['_target_']}): {reason}") from error


def build_later(section: str, options: dict[str, Any]) -> functools.partial[Any]:
    """The section's target with its options set, waiting for its first argument."""
    return build(section, {**options, "_partial_": True})


@contextlib.contextmanager
def naming(section: str) -> Iterator[None]:
    """Call a wrong option by its full name, `section.option`, as it is typed."""
    try:
        yield
    except OptionError as error:
        raise error.within(section) from error


def refuse_name(section: str, name: str, value: Any, names: Iterable[str], target: str = "it") -> None:
    """Raise OptionError: the section has no option of this name; say which was likely meant."""
    near = nearest(name, names := sorted(names))
    hint = f"did you mean {section}.{near}?" if near else f"{target} has " + ", ".join(names)
    rule = f"there is no such option; {hint} (remove one by typing ~{section}.{name})"
    raise OptionError(f"{section}.{name}", value, rule)


def _check_names(section: str, options: dict[str, Any], given: dict[str, Any]) -> None:
    target = _locate(section, options)
    parameters = inspect.signature(target).parameters
    if any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for name, value in options.items():
        if name not in parameters and not name.startswith("_"):
            names = [key for key in parameters if key not in given]
            refuse_name(section, name, value, names, options["_target_"])


def _locate(section: str, options: dict[str, Any]) -> Any:
    name = options.get("_target_")
    if not isinstance(name, str):
        raise OptionError(f"{section}._target_", name, "must name a Python function or class")
    try:
        return pkgutil.resolve_name(name)
    except (ValueError, ImportError, AttributeError):
        rule = "is no Python function or class that can be imported"
        raise OptionError(f"{section}._target_", name, rule) from None
