"""What differs between two runs: configuration, environment, images, results, error of each epoch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from densenet_cli import units
from densenet_cli.figures import terminal
from densenet_cli.options import UserError, shown
from densenet_cli.record.differences import acting_options
from densenet_cli.record.identity import SEEDS, flat
from densenet_cli.record.metrics import read_metrics
from densenet_cli.results.formats import RAW_NAMES
from densenet_cli.results.records import Run, read_run
from densenet_cli.results.settings import measured
from densenet_cli.results.skipped import as_facts, as_text
from densenet_cli.units import duration

log = logging.getLogger(__name__)

EPOCHS_SHOWN = 20  # at most; of longer runs every k-th epoch
ENVIRONMENT = ("versions", "git", "host", "device", "processes", "precision", "tf32", "implementation")
IMAGES = ("name", "num_classes", "image_size", "sizes", "statistics", "class_names", "digest")

QUANTITIES: dict[str, tuple[str, Callable[[float], str]]] = {  # heading, and the format of a value
    "error": ("test error, %", units.percent),
    "balanced": ("balanced test error, %", units.percent),
    "auroc": ("test AUROC", "{:.4f}".format),
    "f1": ("test F1", "{:.4f}".format),
    "error_last": ("test error of the last epoch, %", units.percent),
    "error_best": ("test error of the best epoch, %", units.percent),
    "validation_error": ("validation error, %", units.percent),
    "top5": ("top-5 test error, %", units.percent),
    "parameters": ("parameters", "{:,}".format),
    "multiply_adds": ("multiply-adds", "{:,}".format),
    "seconds": ("time", duration),
    "images_per_second": ("images/s", "{:,.1f}".format),
    "peak_memory_bytes": ("memory", units.memory),
}

Lines = list[tuple[str, str, str]]  # what, in A, in B


def show(a: Path, b: Path) -> None:
    """Print what differs between the runs in two folders.

    Raises:
        UserError: if one of the folders has no readable run.
    """
    runs = read_run(a), read_run(b)
    console = terminal.console()
    for part in _parts(*runs):
        console.print(part)


def _parts(a: Run, b: Run) -> Iterator[RenderableType]:
    for letter, run in (("A", a), ("B", b)):
        error = f": {run.fields['error']}" if run.fields.get("error") else ""
        yield terminal.plain(f"{letter}  {run.name}  ({run.status}{error})")
    yield from _differing_images(a, b)
    yield from _section("Configuration", _configuration(a, b), _same_configuration(a, b))
    environment = differences(_flat(a.fields, ENVIRONMENT), _flat(b.fields, ENVIRONMENT))
    yield from _section("Environment", environment, "The environment is the same.")
    yield _titled("Results", _results(a, b), with_difference=True)
    epochs = _epochs(a, b)
    if epochs:
        title = "100 − AUROC" if a.several_labels and b.several_labels else "Error"
        yield _titled(f"{title} after each epoch, %", epochs, with_difference=True)


def document(a: Path, b: Path) -> dict[str, Any]:
    """What differs between the runs in two folders, for JSON; of the epochs all that both have.

    Raises:
        UserError: if one of the folders has no readable run.
    """
    runs = read_run(a), read_run(b)
    split, epochs = _errors_by_epoch(*runs)
    return {
        "a": _run(runs[0]),
        "b": _run(runs[1]),
        "same_setting": runs[0].setting == runs[1].setting,
        "configuration": [
            {**one, "has_effect": one["name"] in _deciding(*runs)}
            for one in _unequal(*(flat(run.config) for run in runs))
        ],
        "environment": _unequal(*(_flat(run.fields, ENVIRONMENT) for run in runs)),
        "images": _unequal(*_images(*runs)),
        "skipped_images": _unequal(*map(as_facts, runs)),
        "results": [
            {"name": RAW_NAMES[quantity], "a": left, "b": right, "difference": _minus(right, left)}
            for quantity in QUANTITIES
            for left, right in [_measured(quantity, *runs)]
            if (left, right) != (None, None)
        ],
        "epoch_errors": split,
        "epochs": [
            {
                "epoch": int(epoch),
                "a_error_percent": left,
                "b_error_percent": right,
                "difference_points": right - left,
            }
            for epoch, (left, right) in epochs.items()
        ],
    }


def _run(run: Run) -> dict[str, Any]:
    reason, best_on_test = run.fields.get("error"), run.results.get("best_on_test")
    return {"folder": run.name, "state": run.status, "reason": reason, "best_on_test": best_on_test}


def _minus(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _unequal(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The names with different values; None where one is missing."""
    names = {name for name, _, _ in differences(a, b)}
    return [
        {"name": name, "a": a.get(name), "b": b.get(name)}
        for name in dict.fromkeys([*a, *b])
        if name in names
    ]


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> Lines:
    """The names with different values: name, value in a, value in b; "–" where it is missing."""
    names = dict.fromkeys([*a, *b])
    lines = [(name, *(shown(side[name]) if name in side else "–" for side in (a, b))) for name in names]
    return [(name, left, right) for name, left, right in lines if left != right]


def _flat(fields: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return flat({name: fields.get(name) for name in names})


def _configuration(a: Run, b: Run) -> Lines:
    """All options that differ; those that do not affect results come last, marked so."""
    names = _deciding(a, b)
    lines = differences(flat(a.config), flat(b.config))
    deciding = [line for line in lines if line[0] in names]
    others = [(f"{line[0]} (without effect)", *line[1:]) for line in lines if line not in deciding]
    return deciding + others


def _deciding(a: Run, b: Run) -> set[str]:
    """The options that affect the results of one of them."""
    return acting_options(a.config).keys() | acting_options(b.config).keys() | set(SEEDS)


def _same_configuration(a: Run, b: Run) -> str | None:
    """A sentence, if the runs are of one setting."""
    if a.setting != b.setting:
        return None
    seeds = differences(_seeds(a), _seeds(b))
    return "Only the seed differs." if seeds else "No option that affects the results differs."


def _seeds(run: Run) -> dict[str, Any]:
    return {name: value for name, value in flat(run.config).items() if name in SEEDS}


def _section(title: str, lines: Lines, sentence: str | None) -> Iterator[RenderableType]:
    """A table of the differences, and a sentence if there are few or none."""
    if lines:
        yield _titled(title, lines)
    if sentence and (not lines or title == "Configuration"):
        yield Text(sentence)


def _differing_images(a: Run, b: Run) -> Iterator[RenderableType]:
    if lines := differences(*_images(a, b)):
        yield Text("The images differ, so the errors cannot be compared.", style="bold red")
        yield _titled("Images", lines)
    own = [as_facts(run) for run in (a, b)]
    if own[0] != own[1] and all(run.status == "done" for run in (a, b)):
        yield Text(
            "The runs skipped different images, which cannot be read: a difference of the errors can "
            "come from that.",
            style="bold red",
        )
        yield _titled("Skipped images", differences(*map(_as_texts, own)))


def _as_texts(skipped: dict[str, list[str]]) -> dict[str, str]:
    return {split: as_text(names) for split, names in skipped.items()}


def _images(a: Run, b: Run) -> list[dict[str, Any]]:
    """What both runs recorded about their images; nothing if one recorded nothing."""
    data = [run.fields.get("data", {}) for run in (a, b)]
    names = [name for name in IMAGES if name != "digest" or all(side.get(name) for side in data)]
    return [_flat(side, names) if all(data) else {} for side in data]


def _results(a: Run, b: Run) -> list[tuple[str, ...]]:
    lines = []
    for quantity, (name, write) in QUANTITIES.items():
        left, right = _measured(quantity, a, b)
        if left is None and right is None:
            continue
        if quantity == "error_best" and any(run.results.get("best_on_test") for run in (a, b)):
            name = "lowest test error, not to be reported, %"  # the test images chose the epoch
        if a.several_labels and b.several_labels:
            name = name.replace("error", "100 − AUROC")
        cells = ["–" if value is None else write(value) for value in (left, right)]
        lines.append((name, *cells, _difference(left, right, write)))
    return lines


def _measured(quantity: str, a: Run, b: Run) -> list[float | None]:
    """A quantity of both; of images with one label and with several, "error" is not the same one."""
    unlike = a.several_labels != b.several_labels and "error" in quantity
    return [None if unlike and run.several_labels else measured(run, quantity) for run in (a, b)]


def _difference(left: float | None, right: float | None, write: Callable[[float], str]) -> str:
    if left is None or right is None:
        return ""
    sign = "−" if right < left else "+" if right > left else ""
    return sign + write(abs(right - left))


def _epochs(a: Run, b: Run) -> list[tuple[str, ...]]:
    """The errors after some of the epochs that both runs have."""
    _, known = _errors_by_epoch(a, b)
    return [_epoch_line(epoch, *pair) for epoch, pair in _some(list(known.items()))]


def _errors_by_epoch(a: Run, b: Run) -> tuple[str | None, dict[float, tuple[float, float]]]:
    """The errors after each epoch that both runs have: "validation" errors, else "test" errors."""
    if a.several_labels != b.several_labels:
        return None, {}
    rows = [{row.get("epoch"): row for row in _metrics(run)} for run in (a, b)]
    both = [epoch for epoch in rows[0] if epoch in rows[1] and epoch is not None]
    for split in ("validation", "test"):
        values = {epoch: [side[epoch].get(f"{split}_error") for side in rows] for epoch in both}
        known = {
            epoch: (left, right)
            for epoch, (left, right) in values.items()
            if left is not None and right is not None
        }
        if known:
            return split, known
    return None, {}


def _metrics(run: Run) -> list[dict[str, float | None]]:
    try:
        return read_metrics(run.folder)
    except UserError as error:
        log.warning("left out: %s", error)
        return []


def _some(items: list[Any]) -> list[Any]:
    """At most EPOCHS_SHOWN of the items: every k-th, and always the last."""
    step = max(1, -(-len(items) // EPOCHS_SHOWN))
    return items[len(items) - 1 :: -step][::-1]


def _epoch_line(epoch: float, left: float, right: float) -> tuple[str, ...]:
    cells = units.percent(left), units.percent(right)
    return f"{epoch:.0f}", *cells, _difference(left, right, units.percent)


def _titled(title: str, lines: Any, with_difference: bool = False) -> Group:
    headings = ["", "A", "B", "B − A"] if with_difference else ["", "A", "B"]
    text = [""] if with_difference else headings
    return Group(Text(title, style="bold"), terminal.table(headings, lines, text))
