"""The options in which configurations differ, and short phrases for them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from densenet_cli import units
from densenet_cli.options import shown
from densenet_cli.plain_text import as_title, printable
from densenet_cli.record.identity import SEEDS, flat, without_effect
from densenet_cli.record.run_length import chosen_steps

# These only set the defaults of epochs, data.batch_size, model.dropout and data.randaugment.
DEFAULTS_OF_OTHERS = ("recipe.epochs", "recipe.batch_size", "recipe.dropout", "recipe.randaugment")
PHRASES = {
    "epochs": "{} epochs",
    "budget": "budget {}",
    "recipe.steps": "{} steps",
    "recipe.warm_up.rate": "warm-up at {}",
    "recipe.warm_up.steps": "warm-up of {} steps",
    "recipe.warm_up.epochs": "warm-up of {} epochs",
    "recipe.warm_up.until_error": "warm-up until {} % error",
    "model.growth_rate": "k={}",
    "model.depth": "L={}",
    "model.compression": "θ={}",
    "data.batch_size": "batches of {}",
    "data.pack_size": "packed at {} pixels",
    "data.pack_quality": "packed as JPEG {}",
    "recipe.schedule._target_": "{} schedule",
    "recipe": "{}",
    "family": "{}",
    "network": "{}",
    "data": "{}",
    "images": "images {}",
}
SCHEDULES = {
    "OneCycleLR": "one-cycle",
    "CosineAnnealingLR": "cosine",
    "divide_when_reached": "step",
    "divide_when_completed": "step",
    "divide_at_steps": "step",
    "inverse_time": "inverse-time",
}


def acting_options(config: dict[str, Any]) -> dict[str, Any]:
    """The options that decide a result, except the seed: {"model.growth_rate": 12, ...}."""
    idle = (*without_effect(config), *SEEDS, *DEFAULTS_OF_OTHERS)
    sections = tuple(f"{name}." for name in idle)
    options = {
        name: value
        for name, value in flat(config).items()
        if name not in idle and not name.startswith(sections)
    }
    rate = "recipe.optimizer.lr"
    if rate in options and options.get("recipe.schedule.max_lr") == options[rate]:
        del options["recipe.schedule.max_lr"]  # conf/recipe/one_cycle.yaml sets it to the other
    if "budget" in options:
        options.pop("epochs", None)  # that of the recipe or of an experiment, which the budget replaces
        options.pop("recipe.steps", None)  # the same
    else:
        options.pop("recipe.steps" if chosen_steps(config) is None else "epochs", None)
    return options


def differing(flats: Sequence[dict[str, Any]]) -> list[str]:
    """The options whose value is not the same in all configurations, in order of appearance."""
    values: dict[str, list[str]] = defaultdict(list)
    for options in flats:
        for name, value in options.items():
            values[name].append(shown(value))
    return [name for name, own in values.items() if len(own) < len(flats) or len(set(own)) > 1]


def differing_among_peers(flats: Sequence[dict[str, Any]], families: Sequence[str]) -> list[list[str]]:
    """For each configuration, its options that differ among configurations of the same kind.

    An option is compared only between configurations in which it is an argument of the same class: k
    and θ within a family of networks, the fractions of a schedule within that schedule.

    Args:
        flats: the options of each configuration.
        families: the family of the network of each.
    """
    values: dict[tuple[str, str], list[str]] = defaultdict(list)
    peers: dict[str, int] = defaultdict(int)
    keyed = []
    for options, family in zip(flats, families, strict=True):
        keys = {name: _builder(options, name, family) for name in options}
        classes = [name.removesuffix("_target_") for name in options if name.endswith("._target_")]
        # An argument at the value at which it has no effect is left out, of some classes every one.
        for builder in {*keys.values(), *(_builder(options, one, family) for one in classes)}:
            peers[builder] += 1
        for name, builder in keys.items():
            values[builder, name].append(shown(options[name]))
        keyed.append(keys)
    unlike = {key for key, own in values.items() if len(own) < peers[key[0]] or len(set(own)) > 1}
    return [[name for name, builder in keys.items() if (builder, name) in unlike] for keys in keyed]


def phrase(name: str, value: Any) -> str:
    """A short phrase for an option's value: "5 epochs", "θ=0.5", "one-cycle schedule", "lr=0.1"."""
    text = as_title(shown(value))
    if name == "budget" and isinstance(value, (int, float)):
        text = f"{units.typed_number(value)} multiply-adds"
    if name.endswith("_target_"):
        text = text.rpartition(".")[2]
        text = SCHEDULES.get(text, text)
    if name == "epochs" and value == 1:
        return "1 epoch"
    if name == "data.channels" and value == 1:
        return "grey levels"
    if name == "data.pack_size" and value is None:
        return "packed whole"
    if name == "data.pack_quality" and value == "raw":
        return "packed as pixels"
    if name in PHRASES:
        return PHRASES[name].format(text)
    return text if name.endswith("_target_") else f"{printable(name.rpartition('.')[2])}={text}"


def _builder(options: dict[str, Any], name: str, family: str) -> str:
    """The class of which the option is an argument: named by the nearest section around it."""
    section = name.rpartition(".")[0]
    if name.endswith("._target_"):
        section = section.rpartition(".")[0]
    while section and f"{section}._target_" not in options:
        section = section.rpartition(".")[0]
    if not section:
        return ""
    return f"{section}: {family if section == 'model' else options[f'{section}._target_']}"
