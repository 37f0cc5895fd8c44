"""Builds what a section of the configuration describes: calls its `_target_` with its options."""

from __future__ import annotations

import contextlib
import functools
import inspect
import pkgutil
from collections.abc import Iterable, Iterator
from typing import Any

from densenet_cli.options import OptionError, UserError, nearest
from densenet_cli.plain_text import first_line


def build(section: str, options: dict[str, Any], **given: Any) -> Any:
    """Call the section's target with the section's options.

    Args:
        section: the section's name, for messages: a wrong option is called `section.option`.
        options: `_target_` and its arguments.
        given: further arguments, which are no options.

    Raises:
        UserError: if there is no such target, or it has no such option or refuses a value.
    """
    _check_names(section, options, given)
    try:
        return _made({**options, **given})
    except OptionError as error:
        raise error.within(section) from error
    except UserError:
        raise
    except Exception as error:
        reason = first_line(error)
        raise UserError(f"{section} ({options['_target_']}): {reason}") from error


def build_model(options: dict[str, Any], num_classes: int, in_channels: int) -> Any:
    """Build the section `model` for a data set.

    A network is told the number of channels by its argument in_channels. If the argument has another
    default value than 3, it is left alone where images have 3.

    Args:
        options: `_target_` and its arguments.
        num_classes: of the data set.
        in_channels: of its images.

    Raises:
        UserError: as `build`; or if the network cannot read images of other than three channels.
    """
    given: dict[str, Any] = {"num_classes": num_classes}
    parameter = inspect.signature(_locate("model.", options)).parameters.get("in_channels")
    if "in_channels" in options:
        if in_channels not in (options["in_channels"], 3):
            rule = "must be the number of channels of the images, or left out"
            raise OptionError("model.in_channels", options["in_channels"], rule, in_channels)
    elif parameter is not None:
        if in_channels != 3 or parameter.default in (parameter.empty, 3):
            given["in_channels"] = in_channels
    elif in_channels != 3:
        have = f"{in_channels} channel" if in_channels == 1 else f"{in_channels} channels"
        rule = f"has no argument in_channels, and the images have {have}: give it one, as num_classes"
        raise OptionError("model._target_", options["_target_"], rule)
    return build("model", options, **given)


def build_later(section: str, options: dict[str, Any]) -> functools.partial[Any]:
    """The section's target as a function of its first argument, with the options already set."""
    return build(section, {**options, "_partial_": True})


@contextlib.contextmanager
def naming(section: str) -> Iterator[None]:
    """Within, errors name an option in full, `section.option`, as it is typed."""
    try:
        yield
    except OptionError as error:
        raise error.within(section) from error


def refuse_name(
    section: str,
    name: str,
    value: Any,
    names: Iterable[str],
    target: str = "it",
    others: Iterable[str] = (),
) -> None:
    """Raise OptionError: the section has no option of this name; one of `names` was likely meant.

    Args:
        section, name, value: the option and its value.
        names: the options that there are.
        target: what has them.
        others: further options of the section that do not exist either.
    """
    near = nearest(name, names := sorted(names))
    hint = f"did you mean {section}.{near}?" if near else f"{target} has " + ", ".join(names)
    removal = " ".join(f"~{section}.{one}" for one in (name, *others))
    rule = f"there is no such option; {hint} ({removal} removes {'them' if others else 'it'})"
    raise OptionError(f"{section}.{name}", value, rule)


def _made(options: dict[str, Any], path: str = "") -> Any:
    """Call a target with its options. Options that have a target themselves are built first.

    Hydra's `instantiate` is not used because it resolves interpolations again: it would replace ${x} in
    the name of a folder, and text from a file could call OmegaConf's resolvers.
    """
    target = _locate(path, options)
    arguments = {name: _value(item, f"{path}{name}.") for name, item in options.items()}
    del arguments["_target_"]
    positional, later = arguments.pop("_args_", []), arguments.pop("_partial_", False)
    return (
        functools.partial(target, *positional, **arguments)
        if later
        else target(*positional, **arguments)
    )


def _value(value: Any, path: str) -> Any:
    if isinstance(value, dict):
        if "_target_" in value:
            return _made(value, path)
        return {key: _value(item, f"{path}{key}.") for key, item in value.items()}
    if isinstance(value, list):
        return [_value(item, f"{path}{number}.") for number, item in enumerate(value)]
    return value


def _check_names(section: str, options: dict[str, Any], given: dict[str, Any]) -> None:
    target = _locate(f"{section}.", options)
    parameters = inspect.signature(target).parameters
    if any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    unknown = [name for name in options if name not in {*parameters, "_target_", "_partial_", "_args_"}]
    if unknown:
        names = [key for key in parameters if key not in given]
        first, *others = unknown
        refuse_name(section, first, options[first], names, options["_target_"], others)


def _locate(path: str, options: dict[str, Any]) -> Any:
    name = options.get("_target_")
    if not isinstance(name, str):
        raise OptionError(f"{path}_target_", name, "must name a Python function or class")
    try:
        return pkgutil.resolve_name(name)
    except (ValueError, ImportError, AttributeError):
        rule = "must be a Python function or class that can be imported, with its module"
        raise OptionError(f"{path}_target_", name, rule, "torch.optim.AdamW") from None
