"""Published test errors, and whether a setting followed the protocol of one of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from densenet_cli.options import shown
from densenet_cli.record.differences import acting_options, phrase
from densenet_cli.record.network_names import NAMED
from densenet_cli.record.run_record import reported_checkpoint
from densenet_cli.results.settings import Setting

FILE = Path(__file__).with_name("published.yaml")

# Options that are not part of a protocol, or change a result only by rounding.
NO_PROTOCOL = {f"model.{name}" for name in NAMED} | {
    "model.survival_probability",  # the network's name states it
    "data._target_",
    "data.root",
    "data.test_fraction",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "trainer.precision",
    "trainer.sync_batchnorm",
    "trainer.deterministic",
    "trainer.benchmark",
}


@dataclass(frozen=True, eq=False)
class Published:
    """A published test error.

    Args:
        source: authors, year, document and table.
        network: its name, by `network_names.network_name`.
        data: the data set, as in `Setting.data`.
        error: top-1, in percent.
        top5: top-5 error in percent; None if not published.
        protocol: the options that a run must have.
        train_images: training images, without held-out ones.
        beyond: the part of the protocol that no option can express; None if there is none.
    """

    source: str
    network: str
    data: str
    error: float
    top5: float | None
    protocol: dict[str, Any]
    train_images: int
    beyond: str | None


@dataclass(frozen=True)
class Comparison:
    """A setting and the published error of its network on its data.

    Args:
        published: the error measured with the same protocol; None if there is none.
        difference: ours minus theirs, in percentage points; None if there is no such error.
        reason: if there is none, why: what differs from the nearest protocol.
    """

    published: Published | None
    difference: float | None
    reason: str


@cache
def published() -> tuple[Published, ...]:
    """All entries of published.yaml, in its order."""
    content = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return tuple(_entries(content))


def compare(setting: Setting) -> Comparison:
    """The published error that a setting can be compared with, or the reason why there is none."""
    error = setting.mean("error")
    if error is None:
        return Comparison(None, None, "no finished run")
    if setting.averaged_over:
        return Comparison(None, None, f"averaged over {', '.join(setting.averaged_over)}")
    candidates = [
        item for item in published() if (item.network, item.data) == (setting.network, setting.data)
    ]
    if not candidates:
        return Comparison(None, None, "there is none for this network and data")
    faults = {item: _departures(setting, item) for item in candidates}
    nearest = min(candidates, key=lambda item: len(faults[item]))
    if faults[nearest]:
        return Comparison(None, None, "; ".join(faults[nearest]))
    return Comparison(nearest, error - nearest.error, "")


def _entries(content: dict[str, Any]) -> Iterator[Published]:
    for entry in content["results"]:
        for network, errors in entry["networks"].items():
            for data, error in errors.items():
                protocol = content["protocols"][entry["protocols"][data]] | entry.get("options", {})
                yield Published(
                    source=content["sources"][entry["source"]],
                    network=network,
                    data=data,
                    error=error,
                    top5=entry.get("top5", {}).get(network),
                    train_images=protocol.pop("train_images"),
                    beyond=protocol.pop("beyond", None),
                    protocol=protocol,
                )


def _departures(setting: Setting, entry: Published) -> list[str]:
    """What differs from the protocol of a published error, each difference in a few words."""
    options = acting_options(setting.config)
    reports = {reported_checkpoint(run.fields) for run in setting.done}
    if len(reports) == 1 and None not in reports:
        options["recipe.report"] = reports.pop()  # what the runs did, whatever the recipe says
    faults = [
        _departure(name, options.get(name), entry.protocol[name])
        for name in [*options, *(entry.protocol.keys() - options.keys())]
        if name in entry.protocol
        and not (name == "epochs" and "budget" in options)  # a difference that is named below
        and not _same(options.get(name), entry.protocol[name])
        and not _of_another_class(name, options, entry)
    ]
    sizes = [run.fields.get("data", {}).get("sizes", {}).get("train") for run in setting.done]
    if not faults and set(sizes) != {entry.train_images}:
        images = ", ".join(sorted({str(size) for size in sizes}))
        faults.append(f"{images} training images, the paper {entry.train_images}")
    if entry.beyond:
        return [*faults, f"the paper: {entry.beyond}"]
    return faults + [
        phrase(name, ours)
        for name, ours in options.items()
        if ours is not None
        and name not in NO_PROTOCOL
        and name not in entry.protocol
        and not _of_another_class(name, options, entry)
    ]


def _departure(name: str, ours: Any, theirs: Any) -> str:
    if name.endswith("_target_"):
        return phrase(name, ours)
    return f"{phrase(name, ours)}, the paper {shown(theirs)}"


def _of_another_class(name: str, options: dict[str, Any], entry: Published) -> bool:
    """Whether the option belongs to another class than the one that the protocol names."""
    section = f"{name.rpartition('.')[0]}._target_"
    theirs = entry.protocol.get(section)
    return name != section and theirs is not None and options.get(section) != theirs


def _same(ours: Any, theirs: Any) -> bool:
    if isinstance(theirs, list):
        return (
            isinstance(ours, list)
            and len(ours) == len(theirs)
            and all(_same(*pair) for pair in zip(ours, theirs, strict=True))
        )
    if isinstance(theirs, bool) or not isinstance(theirs, (int, float)):
        return ours == theirs and isinstance(ours, type(theirs))
    is_number = isinstance(ours, (int, float)) and not isinstance(ours, bool)
    return is_number and math.isclose(ours, theirs, rel_tol=1e-6)
