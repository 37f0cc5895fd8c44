"""Settings -> figures. A new kind of figure is a module with `draw`, and an entry of KINDS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from densenet_cli.figures import (
    own_matplotlib,  # noqa: F401 -- before the modules that import matplotlib
    style,
)
from densenet_cli.figures.drawing import FORMATS, Drawing
from densenet_cli.options import UserError, choice
from densenet_cli.results.baseline import Judged
from densenet_cli.results.plots import (
    bars,
    by_year,
    decisions,
    error_cost,
    growth_compression,
    learning_curves,
)
from densenet_cli.results.settings import Setting


@dataclass(frozen=True)
class Kind:
    """A kind of figure.

    Args:
        title: its heading in the report.
        needs: the data it is drawn from, as the end of "it needs ...".
        draw: draws settings, or decisions about them; None if they do not have these data.
        shows_decisions: whether it draws decisions.
        names_decisions: whether it draws settings, and can write decisions beside them.
        shows_errors: whether it draws errors; of several labels these are 100 % minus the mean AUROC.
    """

    title: str
    needs: str
    draw: Callable[..., Drawing | None]
    shows_decisions: bool = False
    names_decisions: bool = False
    shows_errors: bool = True


KINDS = {
    "decisions": Kind(
        "Differences from the baseline",
        "--baseline, and finished runs of other settings",
        decisions.draw,
        shows_decisions=True,
    ),
    "error_parameters": Kind(
        "Error and parameters",
        "finished runs with a test error",
        partial(error_cost.draw, cost="parameters"),
        names_decisions=True,
    ),
    "error_multiply_adds": Kind(
        "Error and multiply-adds",
        "finished runs with a test error",
        partial(error_cost.draw, cost="multiply_adds"),
        names_decisions=True,
    ),
    "error_energy": Kind(
        "Error and energy",
        "finished runs that recorded their energy",
        partial(error_cost.draw, cost="energy_joules"),
        names_decisions=True,
    ),
    "learning_curves": Kind(
        "Learning curves", "finished runs with a metrics.csv", learning_curves.draw
    ),
    "growth_compression": Kind(
        "Growth rate and compression",
        "DenseNets of several growth rates and compressions that are equal in all other options",
        growth_compression.draw,
    ),
    "history": Kind(
        "Error and cost by year",
        "finished runs of networks from three different years on one data set",
        by_year.draw,
    ),
    "training_time": Kind(
        "Time",
        "finished runs that recorded their time",
        bars.draw_training_time,
        shows_errors=False,
    ),
    "memory": Kind(
        "Memory",
        "finished runs that recorded their memory",
        bars.draw_memory,
        shows_errors=False,
    ),
}


def write(
    settings: Sequence[Setting],
    kinds: Sequence[str],
    folder: Path,
    formats: Sequence[str] = ("png",),
    judged: Judged | None = None,
) -> list[Path]:
    """Draw settings, and save each figure as KIND.FORMAT and its points as KIND.csv.

    Args:
        settings: only finished runs are drawn.
        kinds: names in KINDS; none means all for which there are data.
        folder: it is created if need be.
        formats: some of FORMATS. Equal data give equal SVG and PDF files.
        judged: the decisions, if the settings were compared with a baseline.

    Returns:
        The files written.

    Raises:
        UserError: if a kind or format is unknown, or there are no data for a figure.
    """
    for form in formats:
        choice("--format", form, FORMATS)
    drawings = drawn(settings, kinds, judged)
    return [path for kind, drawing in drawings.items() for path in drawing.save(folder / kind, formats)]


def document(
    settings: Sequence[Setting],
    kinds: Sequence[str],
    folder: Path,
    formats: Sequence[str],
    judged: Judged | None = None,
) -> dict[str, Any]:
    """What `write` draws, for JSON: the caption and the points of each figure, and its files.

    Args:
        settings, kinds, folder, formats, judged: as for `write`; without formats no file is written.
    """
    return {
        "figures": [
            drawing.document(kind, drawing.save(folder / kind, formats) if formats else ())
            for kind, drawing in drawn(settings, kinds, judged).items()
        ]
    }


def drawn(
    settings: Sequence[Setting], kinds: Sequence[str], judged: Judged | None = None
) -> dict[str, Drawing]:
    """The figures of some kinds; of all for which there are data if none is named.

    Raises:
        UserError: if a kind is unknown, or there are no data for a figure.
    """
    drawings = {kind: draw(settings, kind, judged) for kind in kinds or KINDS}
    for kind, drawing in drawings.items():
        if drawing is None and kinds:
            raise UserError(f"--kind={kind}: nothing to draw; it needs {KINDS[kind].needs}")
    if not any(drawings.values()):
        raise UserError("nothing to draw: there is no finished run with a test error")
    return {kind: drawing for kind, drawing in drawings.items() if drawing is not None}


def draw(settings: Sequence[Setting], kind: str, judged: Judged | None = None) -> Drawing | None:
    """One kind of figure; None if the settings have no data for it.

    Raises:
        OptionError: if there is no such kind.
    """
    choice("--kind", kind, list(KINDS))
    with style.styled():
        drawing = _draw(settings, kind, judged)
    if drawing and KINDS[kind].shows_errors and any(item.several_labels for item in settings):
        note = f"{drawing.note} The error of images with several labels is 100 % minus the mean AUROC."
        return replace(drawing, note=note)
    return drawing


def _draw(settings: Sequence[Setting], kind: str, judged: Judged | None) -> Drawing | None:
    if KINDS[kind].shows_decisions:
        return KINDS[kind].draw(judged) if judged else None
    if KINDS[kind].names_decisions:
        return KINDS[kind].draw(settings, judged=judged)
    return KINDS[kind].draw(settings)
