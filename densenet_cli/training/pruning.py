"""Ending a run after an epoch, because its search has seen enough of it."""

from __future__ import annotations

from collections.abc import Callable

from lightning.pytorch import Callback, LightningModule, Trainer


class Pruned(Exception):
    """The search has ended the run after an epoch, whose state is saved."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        super().__init__(f"pruned after epoch {epoch}")


class AskBetweenEpochs(Callback):
    """Asks, before each epoch but the first, whether the run is to go on; raises Pruned if not.

    It asks at the beginning of an epoch, when the one before is recorded and saved: a run that is
    killed while it waits for the answer resumes there, and asks again.

    Args:
        goes_on: called with the number of completed epochs; False ends the run.
    """

    def __init__(self, goes_on: Callable[[int], bool]) -> None:
        self.goes_on = goes_on

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ask, unless this is the first epoch."""
        completed = trainer.current_epoch
        if completed and not self.goes_on(completed):
            raise Pruned(completed)
