"""The rules for configurations, records and sweep.yaml, which are checked when they are read."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from densenet_cli.options import UserError, shown
from densenet_cli.plain_text import shortened

TOP = ["task", "epochs", "seed", "checkpoint", "checkpoint_minutes", "resume", "next_steps"]
KEYS = {
    "": TOP,
    "logger": [],
    "model": ["_target_"],
    "data": ["_target_", "batch_size", "seed"],
    "recipe": ["report", "label_smoothing", "gradient_clip", "ema_decay", "optimizer", "schedule"],
    "recipe.optimizer": ["_target_", "lr"],
    "recipe.schedule": ["_target_"],
    "pretrained": ["weights", "frozen", "layer_decay"],
    "trainer": ["accelerator", "devices", "num_nodes", "strategy", "precision"],
}  # section -> keys; a section comes after the section it belongs to

STATES = ("done", "failed", "interrupted", "pruned", "running")
LONGEST_SHOWN = 60  # characters of a wrong value


def check_config(config: Any) -> None:
    """Raise UserError if a key is missing, or a section is not a mapping."""
    for section, keys in KEYS.items():
        node = config
        for name in section.split(".") if section else []:
            node = node.get(name)
            if not isinstance(node, dict):
                raise UserError(f"{section}={shown(node)}: must be a section of options")
        if not isinstance(node, dict):
            raise UserError("the configuration is not a mapping")
        for key in keys:
            if key not in node:
                full = f"{section}.{key}" if section else key
                raise UserError(f"{full} is missing: it must have a value and cannot be removed")
    if not isinstance(config["next_steps"], list):
        raise UserError(f"next_steps={shown(config['next_steps'])}: must be a list of lines")


@dataclass(frozen=True)
class Shape:
    """What a value may be.

    Args:
        rule: the end of a sentence, "must be ...".
        fits: whether a value may be this.
    """

    rule: str
    fits: Callable[[Any], bool]

    def or_null(self) -> Shape:
        """The same, or null."""
        return Shape(f"{self.rule}, or null", lambda value: value is None or self.fits(value))


def _number(low: float, high: float) -> Shape:
    def fits(value: Any) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high

    return Shape(f"a number from {low:g} to {high:g}", fits)


def _whole(low: int, high: int = 2**63) -> Shape:
    def fits(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high

    return Shape(f"a whole number, {low} or more", fits)


def _list(rule: str, of: Shape, numbers: tuple[int, ...] | None = None) -> Shape:
    return Shape(
        rule,
        lambda value: (
            isinstance(value, list)
            and (numbers is None or len(value) in numbers)
            and all(map(of.fits, value))
        ),
    )


def _is_moment(value: Any) -> bool:
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return False
    return moment.tzinfo is not None and 1970 <= moment.year < 9000


ANYTHING = Shape("anything", lambda value: True)
SECTION = Shape("a section", lambda value: isinstance(value, dict))
TEXT = Shape("text", lambda value: isinstance(value, str))
TEXTS = _list("a list of texts", TEXT)
SWITCH = Shape("true or false", lambda value: isinstance(value, bool))
MOMENT = Shape("a time such as 2026-11-22T10:14:20+00:00", _is_moment)
COUNT = _whole(0)
COUNTS = Shape(
    "numbers of images",
    lambda value: isinstance(value, dict) and all(map(COUNT.fits, value.values())),
)
AMOUNT = _number(0, 1e30)
PERCENT = _number(0, 100)
SECONDS = _number(0, 1e10)  # three hundred years
SPEED = _number(0, 1e15)
ANY_NUMBER = _number(-1e100, 1e100)
LENGTH = {  # how long a run trains under its budget, or by recipe.steps
    "planned": TEXT,
    "steps": _whole(1),
    "steps_per_epoch": _whole(1),
    "epochs": _number(0, 1e30),
    "multiply_adds": AMOUNT.or_null(),
    "multiply_adds_per_step": AMOUNT.or_null(),
    "seconds_per_step": SECONDS.or_null(),
}

BUDGET = Shape(
    f"a section with {', '.join(LENGTH)}",
    lambda value: (
        isinstance(value, dict)
        and all(name in value and shape.fits(value[name]) for name, shape in LENGTH.items())
    ),
)

REQUIRED = {  # in every run.json
    "state": Shape(f"one of {', '.join(STATES)}", lambda value: value in STATES),
    "results": SECTION,
    "config": SECTION,
    "config.task": ANYTHING,
    "config.epochs": ANYTHING,
    "config.seed": ANYTHING,
    "config.model": SECTION,
    "config.model._target_": TEXT,
    "config.data": SECTION,
    "config.data._target_": TEXT,
    "config.recipe": SECTION,
    "config.recipe.report": ANYTHING,
    "config.trainer": SECTION,
}
OPTIONAL = {  # as soon as they are known; other keys are allowed
    "overrides": TEXTS,
    "identity": TEXT,
    "git": TEXT.or_null(),
    "versions": Shape("texts by name", lambda value: _all_fit(value, TEXT)),
    "host": TEXT,
    "started": MOMENT,
    "updated": MOMENT,
    "ended": MOMENT,
    "resumed": COUNT,
    "error": TEXT.or_null(),
    "device_type": TEXT,
    "implementation": TEXT.or_null(),
    "tf32": SWITCH,
    "class_weights": _list("a list of weights", AMOUNT),
    "cuda_graphs": SWITCH,
    "epoch": COUNT.or_null(),
    "pid": COUNT,
    "seconds": SECONDS.or_null(),
    "train_seconds": SECONDS.or_null(),
    "train_multiply_adds": AMOUNT.or_null(),
    "budget": BUDGET,
    "length": BUDGET,
    "images_per_second": SPEED.or_null(),
    "peak_memory_bytes": AMOUNT.or_null(),
    "energy_joules": AMOUNT.or_null(),
    "energy_devices": TEXTS,
    "energy_unknown": TEXT.or_null(),
    "skipped_images": COUNTS,
}
FACTS = {  # written together, before the first step
    "parameters": AMOUNT,
    "multiply_adds": AMOUNT,
    "device": TEXT,
    "processes": _whole(1),
    "precision": TEXT,
    "epochs": COUNT,
    "config.seed": COUNT,
    "config.data.batch_size": _whole(1),
    "data": SECTION,
    "data.name": TEXT,
    "data.num_classes": _whole(1),
    "data.class_names": TEXTS,
    "data.image_size": _list("height and width in pixels", _whole(1, 100_000), (2,)),
    "data.sizes": SECTION,
    "data.sizes.train": COUNT,
    "data.sizes.validation": COUNT,
    "data.sizes.test": COUNT,
    "data.statistics": SECTION,
    "data.statistics.mean": _list("three numbers, or one of grey levels", _number(-1e9, 1e9), (1, 3)),
    "data.statistics.std": _list(
        "three numbers above 0, or one of grey levels", _number(1e-9, 1e9), (1, 3)
    ),
}
OPTIONAL_OF_DATA = {  # the records of outputs/study lack them
    "digest": TEXT.or_null(),
    "channels": Shape("3, or 1 for grey levels", lambda value: value in (1, 3)),
    "several_labels": SWITCH,  # the error is then 100 % minus the mean AUROC
    "pack": SECTION.or_null(),
}
RESULTS = {  # name, as a regular expression -> what it must be, if it is there
    r"(test|validation)_(top5_|balanced_)?error(_last|_best)?": PERCENT.or_null(),
    r"(test|validation)_f1(_last|_best)?": _number(0, 1).or_null(),
    r"(test|validation)_loss(_last|_best)?": ANY_NUMBER.or_null(),
    "best_epoch": COUNT.or_null(),
    "best_step": COUNT,
    "best_on_test": SWITCH,
    "reported": Shape("last or best", lambda value: value in ("last", "best")),
}
UNTIL_DECIDED = {  # in a sweep.yaml; see sweep_file.UntilDecided
    "baseline": TEXT,
    "settings": Shape("texts by name", lambda value: _all_fit(value, TEXT)),
    "first_seed": COUNT,
    "looks": Shape("whole numbers of 2 or more, ascending", lambda value: _ascend(value)),
    "level": _number(1e-9, 0.2),
    "margin": _number(1e-9, 100).or_null(),
}
METRICS = {  # column of metrics.csv, as a regular expression -> what its cells are, unless empty
    "epoch": _number(0, 1e9),
    "seconds": SECONDS,
    "images_per_second": SPEED,
    r"(train|test|validation)_(top5_|balanced_)?error": PERCENT,
    r"(train|test|validation)_f1": _number(0, 1),
}


def check_record(fields: Any) -> str | None:
    """The fault in the content of a run.json, as the rest of a sentence that begins with its path.

    Args:
        fields: plain data without infinite numbers, as `plain_file.read_json` returns it.

    Returns:
        None if there is no fault.
    """
    if not isinstance(fields, dict):
        return "is not the record of a run"
    rules = REQUIRED | {name: shape for name, shape in OPTIONAL.items() if name in fields}
    if fields.get("epoch") or FACTS.keys() & fields.keys():
        rules |= FACTS
    if isinstance(data := fields.get("data"), dict):
        rules |= {f"data.{name}": shape for name, shape in OPTIONAL_OF_DATA.items() if name in data}
    for name, shape in rules.items():
        node = fields
        *sections, key = name.split(".")
        for section in sections:
            node = node[section]
        if key not in node:
            return f"has no {name}: must be {shape.rule}"
        if not shape.fits(node[key]):
            return _wrong(name, node[key], shape)
    for name, value in fields["results"].items():
        for known, shape in RESULTS.items():
            if re.fullmatch(known, name) and not shape.fits(value):
                return _wrong(f"results.{name}", value, shape)
    if "data" in fields and len(fields["data"]["class_names"]) != fields["data"]["num_classes"]:
        return "has a number of data.class_names that differs from data.num_classes"
    return None


def check_overrides(overrides: Any) -> str | None:
    """The fault in the content of an overrides.yaml; see `check_record`."""
    return None if TEXTS.fits(overrides) else "is not a list of overrides"


def check_sweep(content: Any) -> str | None:
    """The fault in the content of a sweep.yaml; see `check_record`."""
    if not isinstance(content, dict) or not {"commands", "jobs"} <= content.keys():
        return "does not have the keys commands and jobs"
    rules = {"commands": _list("a list of lists of texts", TEXTS), "jobs": TEXTS, "search": SWITCH}
    for name, shape in rules.items():
        if name in content and not shape.fits(content[name]):
            return _wrong(name, content[name], shape)
    return _check_until_decided(content["until_decided"]) if "until_decided" in content else None


def _check_until_decided(content: Any) -> str | None:
    if not isinstance(content, dict) or content.keys() != UNTIL_DECIDED.keys():
        return f"has an until_decided without the keys {', '.join(UNTIL_DECIDED)} and no other"
    for name, shape in UNTIL_DECIDED.items():
        if not shape.fits(content[name]):
            return _wrong(f"until_decided.{name}", content[name], shape)
    if len(content["settings"]) < 2 or content["baseline"] not in content["settings"]:
        return "has an until_decided whose baseline is not one of two settings or more"
    return None


def _ascend(values: Any) -> bool:
    return _list("", _whole(2, 10_000)).fits(values) and values != [] and sorted({*values}) == values


def metric(column: str) -> Shape:
    """What the numbers in a column of metrics.csv must be."""
    found = (shape for known, shape in METRICS.items() if re.fullmatch(known, column))
    return next(found, Shape("a number", lambda value: math.isinf(value) or not abs(value) > 1e100))


def _all_fit(values: Any, shape: Shape) -> bool:
    return isinstance(values, Mapping) and all(map(shape.fits, values.values()))


def _wrong(name: str, value: Any, shape: Shape) -> str:
    return f"has {name}={shortened(shown(value), LONGEST_SHOWN)}: must be {shape.rule}"
