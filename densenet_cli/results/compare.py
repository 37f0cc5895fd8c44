"""What differs between two runs: configuration, environment, images, results, epoch by epoch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from densenet_cli import units
from densenet_cli.figures import terminal
from densenet_cli.options import UserError, shown
from densenet_cli.plain_text import printable
from densenet_cli.record.differences import acting_options
from densenet_cli.record.identity import SEEDS, flat
from densenet_cli.results.records import Run, read_metrics, read_run
from densenet_cli.results.settings import measured
from densenet_cli.units import duration

EPOCHS_SHOWN = 20  # of longer runs only some
ENVIRONMENT = ("versions", "git", "host", "device", "processes", "precision", "implementation")
IMAGES = ("name", "num_classes", "image_size", "sizes", "statistics", "class_names", "digest")

QUANTITIES: dict[str, tuple[str, Callable[[float], str]]] = {  # name, and how it is written
    "error": ("test error, %", units.percent),
    "error_last": ("of the last epoch, %", units.percent),
    "error_best": ("of the best epoch, %", units.percent),
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
        UserError: if one of them holds no run that can be read.
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
        yield _titled("Error after each epoch, %", epochs, with_difference=True)


def differences(a: dict[str, Any], b: dict[str, Any]) -> Lines:
    """What has not the same value in both: name, value in a, value in b; "–" where it is missing."""
    names = dict.fromkeys([*a, *b])
    lines = [(name, *(shown(side[name]) if name in side else "–" for side in (a, b))) for name in names]
    return [(name, left, right) for name, left, right in lines if left != right]


def _flat(fields: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return flat({name: fields.get(name) for name in names})


def _configuration(a: Run, b: Run) -> Lines:
    """All options that differ; those that decide no result come last, and say so."""
    acting = acting_options(a.config) | acting_options(b.config)
    lines = differences(flat(a.config), flat(b.config))
    deciding = [line for line in lines if line[0] in acting or line[0] in SEEDS]
    others = [(f"{line[0]} (without effect)", *line[1:]) for line in lines if line not in deciding]
    return deciding + others


def _same_configuration(a: Run, b: Run) -> str | None:
    """What can be said in one sentence, if the runs are of one setting."""
    if a.setting != b.setting:
        return None
    seeds = differences(_seeds(a), _seeds(b))
    return "Nothing differs but the seed." if seeds else "No option that decides a result differs."


def _seeds(run: Run) -> dict[str, Any]:
    return {name: value for name, value in flat(run.config).items() if name in SEEDS}


def _section(title: str, lines: Lines, sentence: str | None) -> Iterator[RenderableType]:
    """A table of what differs, and a sentence where little or nothing does."""
    if lines:
        yield _titled(title, lines)
    if sentence and (not lines or title == "Configuration"):
        yield Text(sentence)


def _differing_images(a: Run, b: Run) -> Iterator[RenderableType]:
    data = [run.fields.get("data", {}) for run in (a, b)]
    unlike = {"statistics"} if _hold_out_others(a, b) else set()
    unlike |= set() if all(side.get("digest") for side in data) else {"digest"}  # not known of both
    names = [name for name in IMAGES if name not in unlike]
    lines = differences(*(_flat(side, names) for side in data)) if all(data) else []
    if lines:
        yield Text("The images differ, so that errors do not compare.", style="bold red")
        yield _titled("Images", lines)


def _hold_out_others(a: Run, b: Run) -> bool:
    """Whether only the seed decides that the training images, and so their mean, differ a little."""
    holds_out = all(run.fields.get("data", {}).get("sizes", {}).get("validation") for run in (a, b))
    return holds_out and a.setting == b.setting


def _results(a: Run, b: Run) -> list[tuple[str, ...]]:
    lines = []
    for quantity, (name, write) in QUANTITIES.items():
        left, right = measured(a, quantity), measured(b, quantity)
        if left is None and right is None:
            continue
        if quantity == "error_best" and any(run.results.get("best_on_test") for run in (a, b)):
            name = "lowest of all epochs, no result, %"  # the test images chose the epoch
        cells = ["–" if value is None else write(value) for value in (left, right)]
        lines.append((name, *cells, _difference(left, right, write)))
    return lines


def _difference(left: float | None, right: float | None, write: Callable[[float], str]) -> str:
    if left is None or right is None:
        return ""
    sign = "−" if right < left else "+" if right > left else ""
    return sign + write(abs(right - left))


def _epochs(a: Run, b: Run) -> list[tuple[str, ...]]:
    """The errors that both runs measured after an epoch, on held-out images if both have them."""
    rows = [{row.get("epoch"): row for row in _metrics(run)} for run in (a, b)]
    both = [epoch for epoch in rows[0] if epoch in rows[1] and epoch is not None]
    for name in ("validation_error", "test_error"):
        values = {epoch: [side[epoch].get(name) for side in rows] for epoch in both}
        known = {epoch: pair for epoch, pair in values.items() if None not in pair}
        if known:
            return [_epoch_line(epoch, *pair) for epoch, pair in _some(list(known.items()))]
    return []


def _metrics(run: Run) -> list[dict[str, float | None]]:
    try:
        return read_metrics(run)
    except UserError as error:
        print(f"densenet-results: left out: {printable(error)}", file=sys.stderr)
        return []


def _some(items: list[Any]) -> list[Any]:
    """Every k-th of many, and always the last."""
    step = -(-len(items) // EPOCHS_SHOWN)
    return items[len(items) - 1 :: -step][::-1]


def _epoch_line(epoch: float, left: float, right: float) -> tuple[str, ...]:
    cells = units.percent(left), units.percent(right)
    return f"{epoch:.0f}", *cells, _difference(left, right, units.percent)


def _titled(title: str, lines: Any, with_difference: bool = False) -> Group:
    headings = ["", "A", "B", "B − A"] if with_difference else ["", "A", "B"]
    text = [""] if with_difference else headings
    return Group(Text(title, style="bold"), terminal.table(headings, lines, text))
