"""Ends training within an epoch as at its end: with an evaluation and a checkpoint."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class LastStep(Callback):
    """Ends the epoch in which the trainer reaches its `max_steps`.

    By itself Lightning would stop without the evaluation that follows an epoch.
    """

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Ask the trainer to evaluate and stop, if this was the last step."""
        if trainer.global_step >= trainer.max_steps:
            trainer.should_stop = True
