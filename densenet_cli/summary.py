"""What densenet-run says at the end of a run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

RESULT_NAMES = {
    "test_error": "test error",
    "test_top5_error": "test top-5 error",
    "test_error_last": "  of the last epoch",
    "test_error_best": "  of the best epoch",
    "validation_error_last": "validation error, last",
    "validation_error_best": "validation error, best",
}


def show(console: Console, fields: dict[str, Any], folder: Path) -> None:
    """Print a finished run: errors, size, cost, time and folder.

    Args:
        console: where to.
        fields: the content of run.json.
        folder: the run's folder.
    """
    table = Table.grid(padding=(0, 2))
    results = fields["results"]
    for name, title in RESULT_NAMES.items():
        if results.get(name) is not None:
            table.add_row(title, f"{results[name]:.2f} %{_remark(name, results)}")
    table.add_row("parameters", f"{fields['parameters']:,}")
    table.add_row("multiply-adds", f"{fields['multiply_adds']:,} an image")
    if fields.get("images_per_second"):
        table.add_row("training speed", f"{fields['images_per_second']:,.0f} images/s")
    table.add_row("device", f"{fields['device']}, {fields['precision']}")
    table.add_row("time", f"{fields['seconds']:,.0f} s")
    table.add_row("folder", str(relative(folder)))
    console.print(table, highlight=False, soft_wrap=True)


def next_steps(console: Console, lines: list[str]) -> None:
    """Print the lines a newcomer may type next."""
    if lines:
        console.print("\nNext, type one of:", highlight=False)
        for line in lines:
            console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)


def relative(folder: Path) -> Path:
    """The folder as one types it from here."""
    path = Path(os.path.relpath(folder))
    return folder if path.parts[:1] == ("..",) else path


def _remark(name: str, results: dict[str, Any]) -> str:
    if name.endswith("_best") and results.get("best_epoch"):
        chosen = ", chosen on the test set itself" if results.get("best_on_test") else ""
        return f" (epoch {results['best_epoch']}{chosen})"
    return ""
