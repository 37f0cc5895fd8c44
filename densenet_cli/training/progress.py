"""What a run shows while it trains: progress bars on a terminal, and one line per epoch."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from densenet_cli.training.checkpoints import is_evaluated, is_repeated_end
from densenet_cli.units import duration

REFRESH_S = 0.5  # the bars show the loss, and a GPU must wait while it is read

log = logging.getLogger(__name__)


class TrainingProgress(Checkpoint):
    """Shows epochs, batches, loss, error, images/s and time left; keeps one row per epoch.

    Lightning calls a Checkpoint after the module's own hooks, so that the module's metrics are known.

    Args:
        console: where progress is shown; None shows nothing.
        bars: whether bars are drawn if the console is a terminal.
        evaluation_split: "validation" or "test", the prefix of the logged metrics.
        on_epoch: called with this object when a row was added.

    Attributes:
        rows: the rows of metrics.csv: epoch (from 1), learning rate, losses, errors in percent,
            training images/s, seconds. They are saved in checkpoints: a resumed run has all its rows.
        train_seconds, train_images: of all training steps so far.
    """

    def __init__(
        self,
        console: Console | None,
        bars: bool,
        evaluation_split: str,
        on_epoch: Callable[[TrainingProgress], None],
    ) -> None:
        self.console, self.evaluation_split = console, evaluation_split
        self.on_epoch = on_epoch
        self.bars = bars and console is not None and console.is_terminal
        self.rows: list[dict[str, Any]] = []
        self.train_seconds = 0.0
        self.train_images = 0
        self._progress: Progress | None = None
        self._epoch_started: float | None = None
        self._epoch_train_seconds = 0.0
        self._epoch_images = 0
        self._shown_at = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the bars; a resumed epoch continues where it was."""
        if self.bars:
            self._progress = _bars(self.console)
            self._epochs = self._progress.add_task(
                "epochs", total=trainer.max_epochs, completed=trainer.current_epoch, note=""
            )
            self._batches = self._progress.add_task("batches", total=None, note="")
            self._progress.start()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the clock with the first step of the epoch, or of its resumed part."""
        if self._epoch_started is None:
            self._epoch_started = time.monotonic() - self._epoch_train_seconds

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the images; show the loss every REFRESH_S seconds."""
        self._epoch_images += len(batch[1]) * trainer.world_size
        self._epoch_train_seconds = time.monotonic() - (self._epoch_started or 0)
        if self._progress is None or time.monotonic() - self._shown_at < REFRESH_S:
            return
        self._shown_at = time.monotonic()
        done, total = batch_idx + 1, int(trainer.num_training_batches)
        speed = self._epoch_images / max(self._epoch_train_seconds, 1e-9)
        note = f"loss {float(outputs['loss']):.3f}  {speed:,.0f} images/s"
        self._progress.update(self._batches, description="train", completed=done, total=total)
        self._progress.update(self._batches, note=note)
        self._show_time_left(trainer, done / total)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Show the progress of the evaluation."""
        total = trainer.num_val_batches[0] if trainer.num_val_batches else None
        self._show_evaluation(self.evaluation_split, batch_idx + 1, total)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the epoch's row, and print it as a line."""
        if is_repeated_end(pl_module):
            return
        metrics = {
            name.replace("/", "_"): float(value)
            for name, value in trainer.callback_metrics.items()
            if is_evaluated(pl_module) or not name.startswith(self.evaluation_split)
        }
        seconds = time.monotonic() - (self._epoch_started or time.monotonic())
        speed = self._epoch_images / max(self._epoch_train_seconds, 1e-9)
        learning_rate = float(f"{metrics.pop('learning_rate'):.6g}")
        row = {"epoch": trainer.current_epoch + 1, "learning_rate": learning_rate}
        for name, value in sorted(metrics.items(), reverse=True):
            row[name] = round(value, 4 if name.endswith("error") else 6)
        row |= {"images_per_second": round(speed, 1), "seconds": round(seconds, 2)}
        self.rows.append(row)
        self.train_seconds += self._epoch_train_seconds
        self.train_images += self._epoch_images
        line = self._line(row, int(trainer.max_epochs or 0))
        log.info(line)
        if self.console is not None:
            self.console.print(line, highlight=False, soft_wrap=True)
        if self._progress is not None:
            self._progress.update(self._epochs, completed=trainer.current_epoch + 1)
        self._begin_clocks()
        self.on_epoch(self)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the bars."""
        self.close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Remove the bars before an error message is printed."""
        self.close()

    def close(self) -> None:
        """Remove the bars."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def state_dict(self) -> dict[str, Any]:
        """The rows so far, and the sums of the epoch that is not complete."""
        return {
            "rows": self.rows,
            "train_seconds": self.train_seconds,
            "train_images": self.train_images,
            "epoch_train_seconds": self._epoch_train_seconds,
            "epoch_images": self._epoch_images,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the rows and sums."""
        self.rows = list(state_dict["rows"])
        self.train_seconds = state_dict["train_seconds"]
        self.train_images = state_dict["train_images"]
        self._epoch_train_seconds = state_dict["epoch_train_seconds"]
        self._epoch_images = state_dict["epoch_images"]

    def _begin_clocks(self) -> None:
        self._epoch_started = None
        self._epoch_train_seconds = 0.0
        self._epoch_images = 0

    def _show_evaluation(self, split: str, done: int, total: Any) -> None:
        if self._progress is not None and time.monotonic() - self._shown_at >= REFRESH_S:
            self._shown_at = time.monotonic()
            self._progress.update(
                self._batches, description=split, completed=done, total=total, note=""
            )

    def _show_time_left(self, trainer: Trainer, done_of_epoch: float) -> None:
        assert self._progress is not None
        epochs_left = (trainer.max_epochs or 0) - trainer.current_epoch - done_of_epoch
        recent = self.rows[-1]["seconds"] if self.rows else None
        epoch_s = recent or self._epoch_train_seconds / max(done_of_epoch, 1e-9)
        note = f"{duration(epochs_left * epoch_s)} left"
        self._progress.update(self._epochs, completed=trainer.current_epoch + done_of_epoch, note=note)

    def _line(self, row: dict[str, Any], epochs: int) -> str:
        parts = [f"epoch {row['epoch']:>{len(str(epochs))}}/{epochs}"]
        for split in ("train", self.evaluation_split):
            if f"{split}_error" in row:
                loss, error = row[f"{split}_loss"], row[f"{split}_error"]
                decimals = ".4f" if abs(loss) < 1e6 else ".4g"
                parts.append(f"{split} loss {loss:{decimals}} error {error:.2f} %")
        parts.append(f"lr {row['learning_rate']:.4g}")
        parts.append(f"{row['images_per_second']:,.0f} images/s")
        parts.append(duration(row["seconds"]))
        return "  ".join(parts)


def _bars(console: Console | None) -> Progress:
    return Progress(
        TextColumn("{task.description:<10}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        transient=True,
        refresh_per_second=4,
    )
