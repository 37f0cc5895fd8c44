"""Whether a configuration says how long to train in epochs or in steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from densenet_cli.options import OptionError, whole_number


def chosen_steps(config: Mapping[str, Any]) -> Any:
    """`recipe.steps`, with which a run counts its training in steps; None: `epochs` counts."""
    return config["recipe"].get("steps")


def check(config: Mapping[str, Any]) -> None:
    """Check what says how long a run trains, other than its budget.

    With `recipe.steps`, `epochs` must be null or what the recipe has: it does not count.

    Raises:
        OptionError: for `epochs` or `recipe.steps`, or if both were set for this run.
    """
    epochs, steps, budget = config["epochs"], chosen_steps(config), config.get("budget")
    if steps is not None:
        whole_number("recipe.steps", steps, example=64000)
    if budget is not None:
        return
    if steps is None:
        whole_number("epochs", epochs, example=300)
    elif epochs not in (None, config["recipe"].get("epochs")):
        rule = f"cannot be combined with recipe.steps={steps}: each says how long to train; "
        raise OptionError("epochs", epochs, f"{rule}type recipe.steps=null, or epochs=null, too")


def is_in_parts(config: Mapping[str, Any]) -> bool:
    """Whether a run may end within an epoch, by its budget or recipe.steps."""
    return config.get("budget") is not None or chosen_steps(config) is not None


def trained_epochs(record: Mapping[str, Any]) -> float | None:
    """The epochs of a whole run, of which the last may be a part of one; None if not recorded."""
    return (record.get("budget") or record.get("length") or record).get("epochs")
