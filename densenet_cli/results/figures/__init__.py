"""Settings -> figures: files beside the CSV of the points each is made from; needs matplotlib."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

from densenet_cli.options import UserError, choice
from densenet_cli.results import own_matplotlib, spreadsheet  # noqa: F401 -- before all that need it
from densenet_cli.results.figures import (
    bars,
    error_cost,
    growth_compression,
    history,
    learning_curves,
    style,
)
from densenet_cli.results.figures.drawing import Drawing
from densenet_cli.results.settings import Setting
from densenet_cli.whole_file import replace_file

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
FORMATS = ("png", "svg", "pdf")
_WITHOUT_DATE: dict[str, dict[str, None]] = {
    "png": {},
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
}


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
        for path in write_drawing(drawing, folder / kind, formats)
    ]


def draw(settings: Sequence[Setting], kind: str) -> Drawing | None:
    """One of KINDS; None if the settings hold no data for it. Raises UserError for other names."""
    choice("kind", kind, KINDS)
    with style.styled():
        return _DRAW[kind](settings)


def svg(drawing: Drawing) -> str:
    """A drawing as SVG on a transparent ground."""
    text = io.BytesIO()
    with style.styled():
        _save(drawing, "svg", text, transparent=True)
    return text.getvalue().decode()


def _save(drawing: Drawing, form: str, file: BinaryIO, transparent: bool = False) -> None:
    drawing.figure.savefig(file, format=form, metadata=_WITHOUT_DATE[form], transparent=transparent)


def write_drawing(drawing: Drawing, stem: Path, formats: Sequence[str]) -> list[Path]:
    """Write one figure as stem.FORMAT and its points as stem.csv; the files written.

    Raises:
        UserError: if a format is unknown, or the files cannot be written.
    """
    paths = []
    for form in formats:
        choice("format", form, FORMATS)
        paths.append(stem.with_name(f"{stem.name}.{form}"))
        with style.styled():
            replace_file(paths[-1], partial(_save, drawing, form))
    paths.append(stem.with_name(f"{stem.name}.csv"))
    replace_file(paths[-1], spreadsheet.as_text(drawing.points))
    return paths
