"""Stops a run whose loss or weights are NaN or infinite, before they are saved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from densenet_cli.options import UserError

CHECK_EVERY = 50  # steps, on a GPU, which must wait while the loss is read


class FiniteLoss(Callback):
    """Raises UserError when the training loss, or a tensor of a checkpoint, is NaN or infinite.

    The last good checkpoint stays. Buffers that were infinite before training are allowed: masks are.
    """

    def __init__(self) -> None:
        self._loss: Tensor | None = None
        self._masks: set[str] = set()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Note the buffers that are infinite by design."""
        self._masks = not_finite(dict(pl_module.named_buffers()))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Check the loss: at every step on the CPU, every CHECK_EVERY steps on a GPU."""
        self._loss = outputs["loss"]
        if self._loss.device.type == "cpu" or batch_idx % CHECK_EVERY == 0:
            self._check_loss(trainer)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Check the weights to be saved, and their moving averages if there are any."""
        self._check_loss(trainer)
        for name in ("state_dict", "current_model_state"):
            wrong = sorted(not_finite(checkpoint.get(name, {})) - self._masks)
            if wrong:
                others = f" and {len(wrong) - 1} more" if wrong[1:] else ""
                raise _diverged(trainer, f"there are NaN or infinite numbers in {wrong[0]}{others}")

    def _check_loss(self, trainer: Trainer) -> None:
        if self._loss is not None and not torch.isfinite(self._loss):
            raise _diverged(trainer, f"the loss is {float(self._loss)}")


def not_finite(tensors: Mapping[str, Tensor]) -> set[str]:
    """The names of the tensors that contain NaN or an infinite number."""
    real = {name: one for name, one in tensors.items() if one.is_floating_point() and one.numel()}
    if not real:
        return set()
    finite = torch.stack([tensor.isfinite().all() for tensor in real.values()]).tolist()
    return {name for name, is_finite in zip(real, finite, strict=True) if not is_finite}


def _diverged(trainer: Trainer, what: str) -> UserError:
    optimizer = trainer.optimizers[0]
    lr, recipe_lr = optimizer.param_groups[0]["lr"], optimizer.defaults["lr"]
    return UserError(
        f"{what} at step {trainer.global_step} (epoch {trainer.current_epoch + 1}, learning rate "
        f"{lr:g}): training has diverged. Checkpoints saved before are good. Try a lower learning "
        f"rate, recipe.optimizer.lr={recipe_lr / 10:g}, or recipe.gradient_clip=1"
    )
