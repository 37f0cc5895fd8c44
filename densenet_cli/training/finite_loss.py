"""Stops a run whose loss or weights are no longer numbers, before they can be saved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from densenet_cli.options import UserError

CHECK_EVERY = 50  # steps, on devices where reading the loss makes them wait


class FiniteLoss(Callback):
    """Raises UserError once the training loss, or a number to be saved, is NaN or infinite.

    The last good checkpoint stays. Buffers that were infinite before training, as masks are, may be.
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
        """Look at the loss: every step on the CPU, now and then elsewhere."""
        self._loss = outputs["loss"]
        if self._loss.device.type == "cpu" or batch_idx % CHECK_EVERY == 0:
            self._check_loss(trainer)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Never let a checkpoint hold weights that are lost: of the network, or their averages."""
        self._check_loss(trainer)
        for name in ("state_dict", "current_model_state"):
            lost = sorted(not_finite(checkpoint.get(name, {})) - self._masks)
            if lost:
                others = f" and {len(lost) - 1} more" if lost[1:] else ""
                raise _diverged(trainer, f"there are NaN or infinite numbers in {lost[0]}{others}")

    def _check_loss(self, trainer: Trainer) -> None:
        if self._loss is not None and not torch.isfinite(self._loss):
            raise _diverged(trainer, f"the loss is {float(self._loss)}")


def not_finite(tensors: Mapping[str, Tensor]) -> set[str]:
    """The names of the tensors that hold NaN or an infinite number."""
    real = {name: one for name, one in tensors.items() if one.is_floating_point() and one.numel()}
    if not real:
        return set()
    finite = torch.stack([tensor.isfinite().all() for tensor in real.values()]).tolist()
    return {name for name, is_finite in zip(real, finite, strict=True) if not is_finite}


def _diverged(trainer: Trainer, what: str) -> UserError:
    optimizer = trainer.optimizers[0]
    rate, recipe_rate = optimizer.param_groups[0]["lr"], optimizer.defaults["lr"]
    return UserError(
        f"{what} at step {trainer.global_step} (epoch {trainer.current_epoch + 1}, learning rate "
        f"{rate:g}): training has diverged; checkpoints, if any, are from before. Try a lower rate, as "
        f"recipe.optimizer.lr={recipe_rate / 10:g}, or recipe.gradient_clip=1"
    )
