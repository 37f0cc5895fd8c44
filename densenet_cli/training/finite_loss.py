"""Stops a run whose loss is no longer a number, before it can be saved."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from densenet_cli.options import UserError

CHECK_EVERY = 50  # steps, on devices where reading the loss makes them wait


class FiniteLoss(Callback):
    """Raises UserError once the training loss is NaN or infinite; the last good checkpoint stays."""

    def __init__(self) -> None:
        self._loss: Tensor | None = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at the loss: every step on the CPU, now and then elsewhere."""
        self._loss = outputs["loss"]
        if self._loss.device.type == "cpu" or batch_idx % CHECK_EVERY == 0:
            self._check(trainer)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Never let a checkpoint hold weights that are lost."""
        self._check(trainer)

    def _check(self, trainer: Trainer) -> None:
        if self._loss is not None and not torch.isfinite(self._loss):
            optimizer = trainer.optimizers[0]
            rate, recipe_rate = optimizer.param_groups[0]["lr"], optimizer.defaults["lr"]
            raise UserError(
                f"the loss is {float(self._loss)} at step {trainer.global_step} (epoch "
                f"{trainer.current_epoch + 1}, learning rate {rate:g}): training has diverged; "
                f"checkpoints, if any, are from before. Try a lower rate, as "
                f"recipe.optimizer.lr={recipe_rate / 10:g}, or recipe.gradient_clip=1"
            )
