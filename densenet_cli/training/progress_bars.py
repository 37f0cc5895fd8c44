"""Progress bars on a terminal: one for epochs, one for the batches of an epoch or an evaluation."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

REFRESH_S = 0.5  # the bars show the loss, and a GPU must wait while it is read


class ProgressBars:
    """Two bars, from construction until `close`.

    Args:
        console: a terminal.
        epochs: of the whole run.
        completed: epochs that are completed already.
    """

    def __init__(self, console: Console, epochs: int, completed: int) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            transient=True,
            refresh_per_second=4,
        )
        self._epochs = self._progress.add_task("epochs", total=epochs, completed=completed, note="")
        self._batches = self._progress.add_task("batches", total=None, note="")
        self._shown_at = 0.0
        self._progress.start()

    def are_due(self) -> bool:
        """Whether REFRESH_S have passed since batches were last shown."""
        return time.monotonic() - self._shown_at >= REFRESH_S

    def show_batches(self, split: str, done: int, total: float | None, note: str = "") -> None:
        """Show how many batches of a split are done."""
        self._shown_at = time.monotonic()
        self._progress.update(self._batches, description=split, completed=done, total=total, note=note)

    def show_epochs(self, completed: float, note: str | None = None) -> None:
        """Show how many epochs are completed; without a note the last one stays."""
        fields: dict[str, Any] = {} if note is None else {"note": note}
        self._progress.update(self._epochs, completed=completed, **fields)

    def close(self) -> None:
        """Remove the bars."""
        self._progress.stop()
