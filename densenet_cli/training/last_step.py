"""Ends training within an epoch as at its end: with an evaluation and a checkpoint."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class LastStep(Callback):
    """Ends training after a number of steps.

    With Lightning's own max_steps there would be no evaluation after the last step, and a run that is
    resumed from the end of an epoch would leave out the next one.

    Args:
        steps: of the whole run.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Ask the trainer to evaluate and stop, if this was the last step."""
        if trainer.global_step >= self.steps:
            trainer.should_stop = True
