"""What the comparisons of a sweep have shown, as text for the terminal."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

from rich import box
from rich.table import Table

from densenet_cli import units
from densenet_cli.decisions.rounds import Design, Errors, Standing
from densenet_cli.decisions.rule import UNDECIDED
from densenet_cli.plain_text import counted, printable
from densenet_cli.run.summary import relative
from densenet_cli.sweep.status import output_console

HEADINGS = ("seeds", "mean test error", "difference", "interval")


def print_verdicts(
    folder: Path,
    design: Design,
    errors: Mapping[str, Errors],
    standing: Mapping[str, Standing],
    obstacle: Callable[[str], str],
    of_labels: bool = False,
) -> None:
    """Print a table of the comparisons, and by which rule they were decided.

    Args:
        folder: the sweep's.
        design: what was compared.
        errors: for each setting the errors of its finished runs.
        standing: how far each comparison has come.
        obstacle: why the comparison of a setting has not ended; empty if it has.
        of_labels: whether the errors are those of images that can have several labels.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("setting", overflow="fold")
    for heading in HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", overflow="fold")
    used = max(one.decision.seeds if one.decision else 0 for one in standing.values())
    mean = _mean(design, errors[design.baseline], used)
    table.add_row(printable(design.baseline), f"{used}", mean, "", "", "baseline")
    for setting, one in standing.items():
        seeds = one.decision.seeds if one.decision else 0
        mean = _mean(design, errors[setting], seeds)
        word = _word(one, obstacle(setting))
        cells = (f"{seeds}", mean, _difference(one), _interval(one), printable(word))
        table.add_row(printable(setting), *cells)
    console = output_console()
    console.print(table, soft_wrap=False)
    if of_labels:
        console.print(
            "mean test error: 100 % minus the mean AUROC, since images can have several labels"
        )
    for sentence in _rules(design):
        console.print(sentence)
    command = ["densenet-results", "decide", printable(relative(folder))]
    console.print(f"decide again with: {shlex.join(command)}")


def _word(standing: Standing, obstacle: str) -> str:
    word = standing.decision.word if standing.decision else UNDECIDED
    reason = standing.decision.reason if standing.decision else ""
    if not standing.ended:
        return f"{word} so far: {obstacle}"
    return f"{word}: {reason}" if reason else word


def _rules(design: Design) -> list[str]:
    """Sentences on what the columns mean."""
    rule, looks = design.rule, ", ".join(map(str, design.looks))
    number = counted(rule.comparisons, "comparison")
    equal = f"; equal: the difference is within ±{rule.margin:g}" if rule.margin is not None else ""
    return [
        "difference: setting − baseline, of the reported test errors, in percent points, by pairs of "
        "seeds",
        f"verdict: by a sequential t-test at {looks} seeds; the probability of any false decision in "
        f"{number} is {100 * rule.level:g} % at most, and of any interval without the true difference, "
        f"too{equal}",
    ]


def _mean(design: Design, errors: Errors, number: int) -> str:
    """The mean error over the first so many seeds."""
    values = [errors[seed] for seed in design.seeds(number)]
    return f"{math.fsum(values) / number:.2f} %" if number else ""


def _difference(standing: Standing) -> str:
    decision = standing.decision
    return (
        "" if decision is None or decision.difference is None else units.difference(decision.difference)
    )


def _interval(standing: Standing) -> str:
    decision = standing.decision
    if decision is None or decision.low is None or decision.high is None:
        return ""
    return units.interval(decision.low, decision.high)
