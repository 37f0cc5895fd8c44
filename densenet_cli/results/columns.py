"""The columns of the table of results: what each shows of a setting, and the key it is sorted by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from densenet_cli import units
from densenet_cli.plain_text import first_line, shortened
from densenet_cli.results.published import Comparison
from densenet_cli.results.records import Run
from densenet_cli.results.settings import Setting
from densenet_cli.results.systems import System, systems
from densenet_cli.units import duration

if TYPE_CHECKING:
    from densenet_cli.decisions.comparison import Comparison as Decision

MANY_CLASSES = 100  # from this number on, papers report the top-5 error too
LONGEST_REASON = 60  # characters of a failure's message


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        setting: whose results it shows.
        comparison: with the published error; None unless asked for.
        system: the published architecture of the network; None if unknown, or not asked for.
        decision: against the baseline; None if it is the baseline, or there is none.
        is_baseline: whether the others were compared with it.
        energy: whether its energy is shown.
        as_published: the network, and whose protocol it followed, if it did and no other row has these
            words; else None.
    """

    setting: Setting
    comparison: Comparison | None = None
    system: System | None = None
    decision: Decision | None = None
    is_baseline: bool = False
    energy: bool = False
    as_published: str | None = None

    @property
    def title(self) -> str:
        """The name of the row: the options of a protocol need not be listed."""
        return self.as_published or self.setting.title


@dataclass(frozen=True)
class Column:
    """One column.

    Args:
        heading: the text above it.
        text: the cell of a row; empty if nothing is known.
        key: the value that rows are sorted by; None goes last.
        is_number: whether its cells are aligned to the right.
    """

    heading: str
    text: Callable[[Row], str]
    key: Callable[[Row], Any]
    is_number: bool = True


def _mean(quantity: str, unit: Callable[[float], str]) -> tuple[Callable, Callable]:
    """Text and sorting key of a column with a mean."""

    def text(row: Row) -> str:
        value = row.setting.mean(quantity)
        return "" if value is None else unit(value)

    return text, lambda row: row.setting.mean(quantity)


def _error(quantity: str, several_labels: bool = False) -> tuple[Callable, Callable]:
    """An error in percent, of images with one label; or the AUROC of images that can have several."""
    shown = units.auroc if several_labels else units.percent

    def text(row: Row) -> str:
        value = row.setting.mean(quantity)
        if value is None or row.setting.several_labels != several_labels:
            return ""
        mark = " †" if quantity == "error_best" and row.setting.best_on_test else ""
        return shown(value, row.setting.std(quantity)) + mark

    def key(row: Row) -> float | None:
        value = row.setting.mean(quantity) if row.setting.several_labels == several_labels else None
        return value if value is None or not several_labels else 1 - value / 100

    return text, key


def _f1(row: Row) -> str:
    mean, std = row.setting.mean("f1"), row.setting.std("f1")
    if mean is None:
        return ""
    return f"{mean:.4f}" if std is None else f"{mean:.4f} ± {std:.4f}"


def _top5(row: Row) -> str:
    return _error("top5")[0](row) if _classes(row.setting) >= MANY_CLASSES else ""


def _classes(setting: Setting) -> int:
    counts = [run.fields.get("data", {}).get("num_classes") for run in setting.done]
    return max((number for number in counts if number), default=0)


def _memory(row: Row) -> str:
    text = _mean("peak_memory_bytes", units.memory)[0](row)
    return f"{text} ‡" if text and any(map(on_cpu, row.setting.done)) else text


def _energy(row: Row) -> str:
    return _mean("energy_joules", units.energy)[0](row) if row.energy else ""


def on_cpu(run: Run) -> bool:
    """Whether the run used a CPU."""
    return run.fields.get("device_type") == "cpu"


def not_averaged(setting: Setting) -> str:
    """The runs that count in no mean: "1 repeated; 1 running; 2 failed: out of memory"."""
    parts = [f"{len(setting.repeats)} repeated"] if setting.repeats else []
    for status, number in setting.counts.items():
        if status != "done":
            reasons = {failure(run) for run in setting.runs if run.status == status} - {""}
            parts.append(f"{number} {status}" + (f": {'; '.join(sorted(reasons))}" if reasons else ""))
    return "; ".join(parts)


def failure(run: Run) -> str:
    """Why a run failed, in one short line; empty if it did not fail."""
    if run.status != "failed":
        return ""
    message = str(run.fields.get("error") or "")
    if "out of memory" in message.lower():
        return "out of memory"
    return shortened(first_line(message), LONGEST_REASON)


def _published(row: Row) -> str:
    """The error, and in brackets what other sources print for the same runs."""
    found = row.comparison.published if row.comparison else None
    if found is None:
        return ""
    others = ", ".join(f"{error:g}" for error, _ in found.elsewhere)
    return units.percent(found.error) + (f" ({others})" if others else "")


def _difference(row: Row) -> str:
    value = row.comparison.difference if row.comparison else None
    return "" if value is None else units.difference(value)


def interval(found: Decision) -> str:
    """The 95 % interval of a difference from the baseline; empty if there is none."""
    if found.low is None or found.high is None:
        return ""
    return units.interval(found.low, found.high)


def _from_baseline(row: Row) -> str:
    value = row.decision.difference if row.decision else None
    return "" if value is None else units.difference(value)


def _verdict(row: Row) -> str:
    if row.is_baseline:
        return "baseline"
    return row.decision.word if row.decision else ""


def _appearance(row: Row) -> int | None:
    """The rank of a system by first appearance; systems of the same year have different ranks."""
    return systems().index(row.system) if row.system else None


UNDER_A_BUDGET = ("train_epochs", "train_multiply_adds", "train_time")  # shown if a run has one
COLUMNS = {
    "year": Column("year", lambda row: str(row.system.year) if row.system else "", _appearance),
    "system": Column(
        "system",
        lambda row: row.system.name if row.system else "",
        lambda row: row.system.name if row.system else None,
        False,
    ),
    "network": Column("network", lambda row: row.title, lambda row: row.title, False),
    "data": Column("data", lambda row: row.setting.data, lambda row: row.setting.data, False),
    "error": Column("error %", *_error("error")),
    "balanced": Column("balanced %", *_error("balanced")),
    "auroc": Column("AUROC", *_error("error", several_labels=True)),
    "f1": Column("F1", _f1, lambda row: row.setting.mean("f1")),
    "n": Column("n", lambda row: str(row.setting.n), lambda row: row.setting.n),
    "paper": Column(
        "published %",
        _published,
        lambda row: (
            row.comparison.published.error if row.comparison and row.comparison.published else None
        ),
    ),
    "difference": Column(
        "ours − published",
        _difference,
        lambda row: row.comparison.difference if row.comparison else None,
    ),
    "from_baseline": Column(
        "ours − baseline",
        _from_baseline,
        lambda row: row.decision.difference if row.decision else None,
    ),
    "interval": Column(
        "95 % interval",
        lambda row: interval(row.decision) if row.decision else "",
        lambda row: row.decision.low if row.decision else None,
    ),
    "verdict": Column("verdict", _verdict, lambda row: _verdict(row) or None, False),
    "last": Column("last %", *_error("error_last")),
    "last_auroc": Column("last AUROC", *_error("error_last", several_labels=True)),
    "best": Column("best %", *_error("error_best")),
    "best_auroc": Column("best AUROC", *_error("error_best", several_labels=True)),
    "validation": Column("validation %", *_error("validation_error")),
    "validation_auroc": Column("validation AUROC", *_error("validation_error", several_labels=True)),
    "top5": Column("top-5 %", _top5, _error("top5")[1]),
    "parameters": Column("parameters", *_mean("parameters", units.count)),
    "multiply_adds": Column("multiply-adds", *_mean("multiply_adds", units.count)),
    "train_epochs": Column("epochs", *_mean("train_epochs", "{:.4g}".format)),
    "train_multiply_adds": Column("trained with", *_mean("train_multiply_adds", units.count)),
    "train_time": Column("trained for", *_mean("train_seconds", duration)),
    "time": Column("time", *_mean("seconds", duration)),
    "speed": Column("images/s", *_mean("images_per_second", lambda value: f"{value:,.0f}")),
    "memory": Column("memory", _memory, _mean("peak_memory_bytes", str)[1]),
    "energy": Column("energy", _energy, lambda row: row.setting.mean("energy_joules")),
    "unfinished": Column(
        "not averaged",
        lambda row: not_averaged(row.setting),
        lambda row: len(row.setting.runs) - row.setting.n,
        False,
    ),
}
