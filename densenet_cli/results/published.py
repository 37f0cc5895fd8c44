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
from densenet_cli.record.identity import WITHOUT_EFFECT_AT, WITHOUT_EFFECT_IN_NETWORKS
from densenet_cli.record.network_names import NAMED
from densenet_cli.record.run_record import reported_checkpoint
from densenet_cli.results.records import Run
from densenet_cli.results.settings import Setting

FILE = Path(__file__).with_name("published.yaml")

# Options that are not part of a protocol. What those of the devices and the precision do to a result
# stands beside the comparison: see `_unlike`.
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

UNITS = ("epochs", "recipe.steps")  # one of them says how long a run trains
LENGTH, WARM_UP = "length", "recipe.warm_up"  # phrases in place of several options: see `_told`


@dataclass(frozen=True, eq=False)
class Published:
    """A published test error.

    Args:
        source: authors, year, document and table.
        network: its name, by `network_names.network_name`.
        data: the data set, as in `Setting.data`.
        error: top-1, in percent.
        top5: top-5 error in percent; None if not published.
        elsewhere: what other sources print for the same runs, as (error, source).
        protocol: the options that a run must have.
        unstated: options that are not stated: they may have any value.
        train_images: training images, without held-out ones.
        norm_images: over how many images each batch norm computed its statistics; None: not stated.
        unpublished: why there is no protocol; None if there is one.
    """

    source: str
    network: str
    data: str
    error: float
    top5: float | None
    elsewhere: tuple[tuple[float, str], ...]
    protocol: dict[str, Any]
    unstated: tuple[str, ...]
    train_images: int
    norm_images: int | None
    unpublished: str | None

    @property
    def authors(self) -> str:
        """Authors and year: "He et al. 2015"."""
        return self.source.partition(",")[0]


@dataclass(frozen=True)
class Comparison:
    """A setting and the published error of its network on its data.

    Args:
        published: the error measured with the same protocol; None if there is none.
        difference: ours minus theirs, in percentage points; None if there is no such error.
        reason: if there is none, why: what differs from the nearest protocol.
        unlike: if there is one, what was computed otherwise where no option of a protocol says how.
    """

    published: Published | None
    difference: float | None
    reason: str
    unlike: tuple[str, ...] = ()


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
    return Comparison(nearest, error - nearest.error, "", tuple(_unlike(setting, nearest)))


def _entries(content: dict[str, Any]) -> Iterator[Published]:
    sources = content["sources"]
    for entry in content["results"]:
        for network, errors in entry["networks"].items():
            for data, error in errors.items():
                protocol = content["protocols"][entry["protocols"][data]] | entry.get("options", {})
                yield Published(
                    source=sources[entry["source"]],
                    network=network,
                    data=data,
                    error=error,
                    top5=entry.get("top5", {}).get(network),
                    elsewhere=tuple(
                        (own[network][data], sources[source])
                        for source, own in entry.get("elsewhere", {}).items()
                        if data in own.get(network, {})
                    ),
                    unstated=tuple(protocol.pop("unstated", ())),
                    train_images=protocol.pop("train_images"),
                    norm_images=protocol.pop("norm_images"),
                    unpublished=protocol.pop("unpublished", None),
                    protocol=protocol,
                )


def _unlike(setting: Setting, entry: Published) -> Iterator[str]:
    """What the runs of a setting did otherwise than those of a published error with their protocol.

    A machine with other devices than the authors' cannot do as they did. So this stands beside the
    comparison, and does not prevent it.
    """
    sizes = sorted({_norm_images(run) for run in setting.done})
    if entry.norm_images and sizes != [entry.norm_images]:
        ours, theirs = " or ".join(map(str, sizes)), entry.norm_images
        yield f"each batch norm's statistics are over {ours} images, the paper's over {theirs}"
    if precisions := sorted({_precision(run) for run in setting.done} - {"32-true"}):
        yield f"computed in {' or '.join(precisions)}, the paper's in 32 bits"
    if any(run.config["data"].get("verify") is False for run in setting.done):
        yield "the files may be other than the official ones (data.verify=false)"


def _norm_images(run: Run) -> int:
    """Over how many images each batch norm of a run computed its statistics in a step."""
    images, processes = run.config["data"]["batch_size"], run.fields.get("processes", 1)
    return images if run.config["trainer"].get("sync_batchnorm") else images // processes


def _precision(run: Run) -> str:
    """The precision of a run; "TF32" if convolutions in 32 bits round their factors to 10 bits."""
    precision = str(run.fields.get("precision", "32-true"))
    return "TF32" if precision == "32-true" and run.fields.get("tf32") else precision


def _departures(setting: Setting, entry: Published) -> list[str]:
    """What differs from the protocol of a published error, each difference in a few words."""
    if entry.unpublished:
        return [entry.unpublished]
    options = acting_options(setting.config)
    reports = {reported_checkpoint(run.fields) for run in setting.done}
    if len(reports) == 1 and None not in reports:
        options["recipe.report"] = reports.pop()  # what the runs did, whatever the recipe says
    ours, theirs = _told(options, entry.protocol), _told(entry.protocol, options)
    faults = [
        _departure(name, _value(ours, name), theirs[name])
        for name in [*ours, *(name for name in theirs if name not in ours)]
        if name in theirs
        and not (name in (*UNITS, LENGTH) and "budget" in options)  # a difference that is named below
        and not _same(_value(ours, name), theirs[name])
        and not _of_another_class(name, options, entry)
    ]
    sizes = [run.fields.get("data", {}).get("sizes", {}).get("train") for run in setting.done]
    if not faults and set(sizes) != {entry.train_images}:
        images = ", ".join(sorted({str(size) for size in sizes}))
        faults.append(f"{images} training images, the paper {entry.train_images}")
    return faults + [
        _phrase(name, value)
        for name, value in ours.items()
        if value is not None
        and name not in (*NO_PROTOCOL, *entry.unstated)
        and name not in theirs
        and not _of_another_class(name, options, entry)
    ]


def _told(options: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Options as they are compared: a warm-up is a phrase, as is a length in another unit."""
    told = {name: value for name, value in options.items() if not name.startswith(f"{WARM_UP}.")}
    for name in UNITS:
        if name in told and name not in other:
            told[LENGTH] = phrase(name, told.pop(name))
    warm_up = {name: value for name, value in options.items() if name.startswith(f"{WARM_UP}.")}
    rate = warm_up.pop(f"{WARM_UP}.rate", None)
    lengths = " ".join(phrase(name, value) for name, value in warm_up.items())
    return told | {WARM_UP: f"{lengths} at a rate of {rate}" if warm_up else "no warm-up"}


def _value(options: dict[str, Any], name: str) -> Any:
    """An option's value; without the option, the one at which it has no effect, if there is one."""
    section, _, argument = name.rpartition(".")
    networks = WITHOUT_EFFECT_IN_NETWORKS.get(str(options.get("model._target_")), {})
    without = networks.get(argument) if section == "model" else None
    return options.get(name, WITHOUT_EFFECT_AT.get(name, without))


def _departure(name: str, ours: Any, theirs: Any) -> str:
    own, published = _phrase(name, ours), _phrase(name, theirs)
    if name in (LENGTH, WARM_UP):
        return f"{own}, the paper {published}"
    if not name.endswith("_target_"):
        return f"{own}, the paper {shown(theirs)}"
    if own != published:
        return own
    part, classes = name.split(".")[-2], [str(one).rpartition(".")[2] for one in (ours, theirs)]
    return f"{part} {classes[0]}, the paper {classes[1]}"


def _phrase(name: str, value: Any) -> str:
    return str(value) if name in (LENGTH, WARM_UP) else phrase(name, value)


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
