"""Settings -> figures: files beside the CSV of the points each is made from; needs matplotlib."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from densenet_cli.figures import drawing as figure_files
from densenet_cli.figures import (
    own_matplotlib,  # noqa: F401 -- before all that need it
    style,
)
from densenet_cli.figures.drawing import FORMATS, Drawing
from densenet_cli.options import UserError, choice
from densenet_cli.results.plots import bars, error_cost, growth_compression, learning_curves
from densenet_cli.results.plots import by_year as history
from densenet_cli.results.settings import Setting

_DRAW: dict[str, Callable[[Sequence[Setting]], Drawing | None]] = {
    "error_parameters": partial(error_cost.draw, cost="parameters"),
    "error_multiply_adds": partial(error_cost.draw, cost="multiply_adds"),
    "learning_curves": learning_curves.draw,
    "growth_compression": growth_compression.draw,
    "history": history.draw,
    "training_time": bars.draw_training_time,
    "memory": bars.draw_memory,
}
_NEEDS = {
    "error_parameters": "finished runs with a test error",
    "error_multiply_adds": "finished runs with a test error",
    "learning_curves": "finished runs with a metrics.csv",
    "growth_compression": "DenseNets of several growth rates and compressions, all else equal",
    "history": "finished runs of systems of three different years on one data set",
    "training_time": "finished runs that noted their time",
    "memory": "finished runs that noted their memory",
}
KINDS = tuple(_DRAW)


def write(
    settings: Sequence[Setting], kinds: Sequence[str], folder: Path, formats: Sequence[str] = ("png",)
) -> list[Path]:
    """Draw settings, and write each figure as KIND.FORMAT and its points as KIND.csv.

    Args:
        settings: only finished runs are drawn.
        kinds: some of KINDS; none means all that the data allow.
        folder: it is made if need be.
        formats: some of FORMATS. Equal data give equal SVG and PDF files.

    Returns:
        The files written.

    Raises:
        UserError: if a kind or format is unknown, a kind asked for lacks data, or none has any.
    """
    for name in formats:
        choice("format", name, FORMATS)
    drawings = {kind: draw(settings, kind) for kind in kinds or KINDS}
    for kind, drawing in drawings.items():
        if drawing is None and kinds:
            raise UserError(f"--kind {kind}: nothing to draw; it needs {_NEEDS[kind]}")
    if not any(drawings.values()):
        raise UserError("nothing to draw: there is no finished run with a test error")
    return [
        path
        for kind, drawing in drawings.items()
        if drawing is not None
        for path in figure_files.write(drawing, folder / kind, formats)
    ]


def draw(settings: Sequence[Setting], kind: str) -> Drawing | None:
    """One of KINDS; None if the settings hold no data for it. Raises UserError for other names."""
    choice("kind", kind, KINDS)
    with style.styled():
        return _DRAW[kind](settings)
