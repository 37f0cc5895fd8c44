"""Runs -> settings: runs that differ only in the seed form one setting."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from densenet_cli.options import OptionError, nearest, shown
from densenet_cli.plain_text import as_title
from densenet_cli.record.differences import acting_options, differing, differing_among_peers, phrase
from densenet_cli.record.identity import flat
from densenet_cli.record.network_names import NAMED, family, network_name
from densenet_cli.record.run_length import trained_epochs
from densenet_cli.record.run_record import reported_checkpoint
from densenet_cli.record.trained_on import COMMON
from densenet_cli.results.records import Run

# The names that papers use; they add "+" if the training images are augmented.
DATA_NAMES = {
    "Cifar10": "C10",
    "Cifar100": "C100",
    "Svhn": "SVHN",
    "Digits": "digits",
    "Mnist": "MNIST",
    "FashionMnist": "Fashion-MNIST",
}
UNREAD_NAMES = {"ImageFolder": "image_folder", "ImageTable": "image_table"}  # before a run read them
IMAGENET = (1000, 1_281_167)  # classes and training images of ILSVRC-2012
IN_OTHER_COLUMNS = {f"model.{name}" for name in NAMED} | {"data._target_", "data.augment"}
OF_RECIPES = ("recipe.", "data.randaugment", "model.dropout")  # which a recipe sets

RESULTS = {  # quantity -> its name among the results; errors in percent; F1 from 0 to 1
    "error": "test_error",
    "error_last": "test_error_last",
    "error_best": "test_error_best",
    "top5": "test_top5_error",
    "balanced": "test_balanced_error",
    "f1": "test_f1",
    "validation_error": "validation_error_last",  # or _best: see `measured`
}
COSTS = (
    "parameters",
    "multiply_adds",
    "seconds",
    "train_seconds",
    "train_multiply_adds",
    "train_epochs",
    "images_per_second",
    "peak_memory_bytes",
    "energy_joules",
)
QUANTITIES = (*RESULTS, "auroc", *COSTS)
PSEUDO_OPTIONS: dict[str, Callable[[Run], str]] = {  # runs can be grouped by these, too
    "family": lambda run: family(run.config["model"]),
    "network": lambda run: network_name(run.config["model"]),
    "data": lambda run: data_name(run),
    "images": lambda run: images_name(run.images),
}


@dataclass(frozen=True, eq=False)
class Setting:
    """Runs that differ only in the seed, or that were grouped by some options.

    Args:
        title: the network's name, and the other options in which the settings shown differ.
        family: "DenseNet-BC", "ResNet", ...; several are separated by commas.
        network: its name; several are separated by commas.
        data: "C10+", "C10", "C100+", "SVHN", ...: with "+" if augmented.
        config: the configuration of its first run.
        options: those in which the settings shown differ: {"model.growth_rate": 12, ...}.
        runs: all of them, including failed and unfinished ones.
        averaged_over: if the runs were grouped, the options that vary between them.
    """

    title: str
    family: str
    network: str
    data: str
    config: dict[str, Any]
    options: dict[str, Any]
    runs: list[Run]
    averaged_over: tuple[str, ...] = ()

    @cached_property
    def done(self) -> list[Run]:
        """The finished runs, one for each seed: only these are averaged."""
        return [run for run in self.runs if run.status == "done" and run not in self.repeats]

    @cached_property
    def repeats(self) -> dict[Run, Run]:
        """Finished runs that do not count, each with the run of the same seed that counts instead.

        The one that ended first counts, so repeating or copying a run changes no result.
        """
        repeats: dict[Run, Run] = {}
        for group in _alike(self.runs):
            first: dict[tuple[str, ...], Run] = {}
            for run in sorted(group, key=lambda run: run.ended):
                if run.status == "done" and first.setdefault(run.seeds, run) is not run:
                    repeats[run] = first[run.seeds]
        return repeats

    @property
    def n(self) -> int:
        """The number of runs that are averaged."""
        return len(self.done)

    @property
    def counts(self) -> dict[str, int]:
        """How many runs there are of each status: {"done": 3, "failed": 1}."""
        return dict(Counter(run.status for run in self.runs))

    @property
    def best_on_test(self) -> bool:
        """Whether the test images chose the epoch of "error_best", which is then no valid result."""
        return any(run.results.get("best_on_test") for run in self.done)

    @property
    def several_labels(self) -> bool:
        """Whether its errors are 100 % minus the mean AUROC, of images that can have several labels."""
        return bool(self.done) and all(run.several_labels for run in self.done)

    @cached_property
    def _values(self) -> dict[str, list[float]]:
        found = {name: [measured(run, name) for run in self.done] for name in QUANTITIES}
        return {name: [value for value in own if value is not None] for name, own in found.items()}

    def values(self, quantity: str) -> list[float]:
        """One of QUANTITIES, from each finished run that measured it."""
        return self._values[quantity]

    def mean(self, quantity: str) -> float | None:
        """The mean over the finished runs; None if none measured it."""
        values = self.values(quantity)
        return math.fsum(values) / len(values) if values else None

    def std(self, quantity: str) -> float | None:
        """The sample standard deviation over the finished runs; None for fewer than two."""
        values, mean = self.values(quantity), self.mean(quantity)
        if mean is None or len(values) < 2:
            return None
        return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def measured(run: Run, quantity: str) -> float | None:
    """One of QUANTITIES as the run recorded it; None if it did not. "auroc" is from 0 to 1.

    The validation error is that of the epoch whose test error counts: the last or the best one.
    """
    if quantity == "validation_error" and reported_checkpoint(run.fields) == "best":
        return run.results.get("validation_error_best")
    if quantity == "train_epochs":
        return trained_epochs(run.fields)
    if quantity == "auroc":
        error = measured(run, "error") if run.several_labels else None
        return None if error is None else 1 - error / 100
    return run.results.get(RESULTS[quantity]) if quantity in RESULTS else run.fields.get(quantity)


def data_name(run: Run) -> str:
    """The data set as papers write it, "C10+", "SVHN", ...; others by their own names."""
    data, facts = run.config["data"], run.fields.get("data", {})
    kind = data["_target_"].rpartition(".")[2]
    own = facts.get("name") or UNREAD_NAMES.get(kind, kind)
    name = DATA_NAMES.get(kind) or as_title(own)
    if (facts.get("num_classes"), facts.get("sizes", {}).get("train")) == IMAGENET:
        name = "ImageNet"
    return f"{name}+" if data.get("augment") is True else name


def images_name(digest: str | None) -> str:
    """A name for the images with this digest, for titles."""
    return digest[:6] if digest else "unknown"


def settings(runs: Sequence[Run], group_by: Sequence[str] = ()) -> list[Setting]:
    """The settings of some runs, in order of first appearance.

    Args:
        runs: from `records.read_runs`.
        group_by: options such as "model.growth_rate", or "family", "network", "data", "images". Runs
            that agree in these form one setting, which is averaged over all other options.

    Raises:
        OptionError: if `group_by` names an option that no run has.
    """
    if group_by:
        return _grouped(runs, group_by)
    groups = _alike(runs)
    flats = _flats(groups)
    families = [family(group[0].config["model"]) for group in groups]
    names, in_titles = differing(flats), _with_names_of_recipes(groups, flats)
    of_peers = differing_among_peers(in_titles, families)
    titled = [
        {name: options[name] for name in own} for options, own in zip(in_titles, of_peers, strict=True)
    ]
    return [
        Setting(
            title=_title(network_name(group[0].config["model"]), in_title),
            family=kind,
            network=network_name(group[0].config["model"]),
            data=data_name(group[0]),
            config=group[0].config,
            options={name: options[name] for name in names if name in options},
            runs=group,
        )
        for group, options, kind, in_title in zip(groups, flats, families, titled, strict=True)
    ]


def _alike(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs of each setting; runs on different images are different settings.

    A run whose images are unknown joins the others of its setting, unless these have several images.
    """
    known: dict[str, set[str]] = {}
    for run in runs:
        known.setdefault(run.setting, set()).update({run.images} if run.images else ())
    groups: dict[tuple[str, str | None], list[Run]] = {}
    for run in runs:
        images = run.images if len(known[run.setting]) > 1 else None
        groups.setdefault((run.setting, images), []).append(run)
    return list(groups.values())


def _flats(groups: Sequence[list[Run]]) -> list[dict[str, Any]]:
    """The options of each group, and "images" if groups with equal options have different images."""
    flats = [acting_options(group[0].config) for group in groups]
    own = [next((run.images for run in group if run.images), None) for group in groups]
    texts = [_data_options(options) for options in flats]
    found: dict[str, set[str]] = {}
    for text, images in zip(texts, own, strict=True):
        found.setdefault(text, set()).update({images} if images else ())
    for options, text, images in zip(flats, texts, own, strict=True):
        if len(found[text]) > 1:
            options["images"] = images_name(images)
    return flats


def _data_options(options: dict[str, Any]) -> str:
    """The options that decide which images are used, as one text."""
    common = {f"data.{name}" for name in COMMON}
    return shown(
        [one for one in options.items() if one[0].startswith("data.") and one[0] not in common]
    )


def _with_names_of_recipes(
    groups: Sequence[list[Run]], flats: Sequence[dict[str, Any]]
) -> Sequence[dict[str, Any]]:
    """The options of each group; if recipes were typed for all, their names instead of what these say.

    A name says the value of an option of recipes if all groups of each name agree in it.
    """
    names = [_typed_recipe(group) for group in groups]
    if None in names or len(set(names)) < 2:
        return flats
    values: dict[tuple[str, str | None], set[str]] = {}
    of_recipes = {one for options in flats for one in options if one.startswith(OF_RECIPES)}
    for name, options in zip(names, flats, strict=True):
        for one in of_recipes:
            values.setdefault((one, name), set()).add(shown(options.get(one, "")))
    said = of_recipes - {one for (one, _), own in values.items() if len(own) > 1}
    return [
        {"recipe": name} | {one: value for one, value in options.items() if one not in said}
        for name, options in zip(names, flats, strict=True)
    ]


def _typed_recipe(group: Sequence[Run]) -> str | None:
    typed = [item for run in group for item in run.fields.get("overrides") or []]
    found = {item.removeprefix("recipe=") for item in typed if item.startswith("recipe=")}
    return found.pop() if len(found) == 1 else None


def _title(network: str, options: dict[str, Any]) -> str:
    phrases = (phrase(*one) for one in options.items() if one[0] not in IN_OTHER_COLUMNS)
    return ", ".join([network, *phrases])


def _grouped(runs: Sequence[Run], names: Sequence[str]) -> list[Setting]:
    options = [_values(run, names) for run in runs]
    for name in names:
        if not any(name in found for found in options):
            known = sorted({key for run in runs for key in flat(run.config)} | PSEUDO_OPTIONS.keys())
            example = nearest(name, known) or "model.growth_rate"
            raise OptionError("--group-by", name, "no run has such an option", example)
    groups: dict[str, list[Run]] = {}
    found: dict[str, dict[str, Any]] = {}
    for run, values in zip(runs, options, strict=True):
        key = shown([(name, values.get(name, "")) for name in names])
        groups.setdefault(key, []).append(run)
        found[key] = values
    return [_group(group, found[key], names) for key, group in groups.items()]


def _values(run: Run, names: Sequence[str]) -> dict[str, Any]:
    options = flat(run.config) if set(names) - PSEUDO_OPTIONS.keys() else {}
    options |= {name: PSEUDO_OPTIONS[name](run) for name in names if name in PSEUDO_OPTIONS}
    return {name: options[name] for name in names if name in options}


def _group(group: list[Run], values: dict[str, Any], names: Sequence[str]) -> Setting:
    models = [run.config["model"] for run in group]
    distinct = _flats(_alike(group))
    parts = [phrase(name, values[name]) if name in values else f"without {name}" for name in names]
    return Setting(
        title=", ".join(parts),
        family=_joined(map(family, models)),
        network=_joined(map(network_name, models)),
        data=_joined(map(data_name, group)),
        config=group[0].config,
        options=values,
        runs=group,
        averaged_over=tuple(name for name in differing(distinct) if name not in names),
    )


def _joined(names: Any) -> str:
    return ", ".join(dict.fromkeys(names))
