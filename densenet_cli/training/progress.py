"""What a run shows while it trains: progress bars on a terminal, and one line per epoch."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from rich.console import Console

from densenet_cli.training.checkpoints import is_evaluated, is_repeated_end, is_within_epoch
from densenet_cli.training.progress_bars import ProgressBars
from densenet_cli.units import duration

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
        rows: the rows of metrics.csv: epoch (from 1), learning rate, losses, errors in percent (see
            ImageClassifier), F1 of several labels from 0 to 1,
            training images/s, seconds. They are saved in checkpoints: a resumed run has all its rows.
            With evaluations within epochs (trainer.val_check_interval), a row has the latest of its
            epoch.
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
        self.draws_bars = bars and console is not None and console.is_terminal
        self.rows: list[dict[str, Any]] = []
        self.train_seconds = 0.0
        self.train_images = 0
        self._bars: ProgressBars | None = None
        self._epoch_started: float | None = None
        self._epoch_train_seconds = 0.0
        self._epoch_images = 0
        self._evaluation: dict[str, float] = {}  # the latest one within this epoch
        self._evaluation_began = self._evaluation_seconds = 0.0  # those within this epoch
        self._is_mixed = False  # whether loss and error in training are those of mixed images

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the bars; say where a resumed run continues."""
        epochs, completed = trainer.max_epochs or 0, trainer.current_epoch
        self._is_mixed = getattr(pl_module, "mixing", None) is not None
        if self.console is not None and trainer.ckpt_path is not None and completed < epochs:
            self.console.print(f"resuming at epoch {completed + 1}", highlight=False)
        if self.console is not None and self.draws_bars:
            self._bars = ProgressBars(self.console, epochs, completed)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the clock with the first step of the epoch, or of its resumed part."""
        if self._epoch_started is None:
            self._epoch_started = time.monotonic() - self._epoch_train_seconds

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the images; now and then show loss, speed and time left."""
        self._epoch_images += len(batch[1]) * trainer.world_size
        seconds = time.monotonic() - (self._epoch_started or 0)
        self._epoch_train_seconds = seconds - self._evaluation_seconds
        if self._bars is None or not self._bars.are_due():
            return
        done, total = batch_idx + 1, int(trainer.num_training_batches)
        loss = float(outputs["loss"])
        self._bars.show_batches("train", done, total, f"loss {loss:.3f}  {self._speed():,.0f} images/s")
        completed = trainer.current_epoch + done / total
        self._bars.show_epochs(completed, f"{duration(self._time_left(trainer, done / total))} left")

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
        if self._bars is not None and self._bars.are_due():
            total = trainer.num_val_batches[0] if trainer.num_val_batches else None
            self._bars.show_batches(self.evaluation_split, batch_idx + 1, total)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of an evaluation."""
        self._evaluation_began = time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note an evaluation within an epoch, whose time is none of training."""
        if not is_within_epoch(trainer):
            return
        self._evaluation_seconds += time.monotonic() - self._evaluation_began
        self._evaluation = {
            name: float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith(self.evaluation_split)
        }
        found = ", ".join(f"{name} {value:.4f}" for name, value in self._evaluation.items())
        log.info("step %d: %s", trainer.global_step, found)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the epoch's row, and print it as a line."""
        if is_repeated_end(pl_module):
            return
        self.rows.append(self._row(trainer, pl_module))
        self.train_seconds += self._epoch_train_seconds
        self.train_images += self._epoch_images
        self._epoch_started, self._epoch_train_seconds, self._epoch_images = None, 0.0, 0
        self._evaluation, self._evaluation_seconds = {}, 0.0
        line = self._line(self.rows[-1], trainer.max_epochs or 0)
        log.info(line)
        if self.console is not None:
            self.console.print(line, highlight=False, soft_wrap=True)
        if self._bars is not None:
            self._bars.show_epochs(trainer.current_epoch + 1)
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
        if self._bars is not None:
            self._bars.close()
            self._bars = None

    def state_dict(self) -> dict[str, Any]:
        """The rows so far, and the sums of the epoch that is not complete."""
        return {
            "rows": self.rows,
            "train_seconds": self.train_seconds,
            "train_images": self.train_images,
            "epoch_train_seconds": self._epoch_train_seconds,
            "epoch_images": self._epoch_images,
            "evaluation": self._evaluation,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the rows and sums."""
        self.rows = list(state_dict["rows"])
        self.train_seconds = state_dict["train_seconds"]
        self.train_images = state_dict["train_images"]
        self._epoch_train_seconds = state_dict["epoch_train_seconds"]
        self._epoch_images = state_dict["epoch_images"]
        self._evaluation = dict(state_dict.get("evaluation", {}))

    def _speed(self) -> float:
        """Training images per second in this epoch."""
        return self._epoch_images / max(self._epoch_train_seconds, 1e-9)

    def _time_left(self, trainer: Trainer, done_of_epoch: float) -> float:
        """Seconds until training ends, if all epochs take as long as the last one did."""
        per_epoch = -(-trainer.num_training_batches // trainer.accumulate_grad_batches)
        steps = getattr(trainer.lightning_module, "steps", None)
        epochs = (
            steps / per_epoch if steps else trainer.max_epochs or 0
        )  # the last may be a part of one
        epochs_left = epochs - trainer.current_epoch - done_of_epoch
        last = self.rows[-1]["seconds"] if self.rows else None
        return epochs_left * (last or self._epoch_train_seconds / max(done_of_epoch, 1e-9))

    def _row(self, trainer: Trainer, module: LightningModule) -> dict[str, Any]:
        logged = {
            name: float(value)
            for name, value in trainer.callback_metrics.items()
            if is_evaluated(module) or not name.startswith(self.evaluation_split)
        }
        metrics = {name.replace("/", "_"): value for name, value in (self._evaluation | logged).items()}
        learning_rate = float(f"{metrics.pop('learning_rate'):.6g}")
        row = {"epoch": trainer.current_epoch + 1, "learning_rate": learning_rate}
        for name, value in sorted(metrics.items(), reverse=True):
            if name.endswith("loss") or not math.isnan(value):  # AUROC and F1 may not be defined
                row[name] = round(value, 4 if name.endswith("error") else 6)
        seconds = time.monotonic() - (self._epoch_started or time.monotonic())
        return row | {"images_per_second": round(self._speed(), 1), "seconds": round(seconds, 2)}

    def _line(self, row: dict[str, Any], epochs: int) -> str:
        parts = [f"epoch {row['epoch']:>{len(str(epochs))}}/{epochs}"]
        for split in ("train", self.evaluation_split):
            if f"{split}_error" in row:
                loss, error = row[f"{split}_loss"], row[f"{split}_error"]
                decimals = ".4f" if abs(loss) < 1e6 else ".4g"
                found = f"error {error:.2f} %"
                if f"{split}_f1" in row:  # of several labels
                    found = f"AUROC {1 - error / 100:.4f} F1 {row[f'{split}_f1']:.4f}"
                mixed = " (mixed)" if split == "train" and self._is_mixed else ""
                parts.append(f"{split} loss {loss:{decimals}} {found}{mixed}")
        parts.append(f"lr {row['learning_rate']:.4g}")
        parts.append(f"{row['images_per_second']:,.0f} images/s")
        parts.append(duration(row["seconds"]))
        return "  ".join(parts)
