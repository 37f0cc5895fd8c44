"""Stops a run whose loss or weights are NaN or infinite, before they are saved."""

from __future__ import annotations

import math
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
    Several processes raise it together, also if the number is in one of them only.
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
            others = f" and {len(wrong) - 1} more" if wrong[1:] else ""
            where = f"{wrong[0]}{others}" if wrong else "the checkpoint of another process"
            if _in_any_process(bool(wrong), trainer):
                raise _diverged(trainer, f"there are NaN or infinite numbers in {where}")

    def _check_loss(self, trainer: Trainer) -> None:
        loss = 0.0 if self._loss is None else float(self._loss)
        if _in_any_process(not math.isfinite(loss), trainer):
            theirs = "the loss of another process is NaN or infinite"
            raise _diverged(trainer, theirs if math.isfinite(loss) else f"the loss is {loss}")


def _in_any_process(is_wrong: bool, trainer: Trainer) -> bool:
    """Whether it is so in one of the processes, which all call this together."""
    if not torch.distributed.is_initialized():
        return is_wrong
    wrong = torch.tensor(is_wrong, dtype=torch.int32, device=trainer.strategy.root_device)
    torch.distributed.all_reduce(wrong, torch.distributed.ReduceOp.MAX)
    return bool(wrong)


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
