"""An exponential moving average of the weights, which is evaluated and saved in place of them."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from densenet_cli.options import UserError


class WeightAverage(Callback):
    """After each step: average = decay x average + (1 - decay) x weights; the first step is copied.

    Buffers are averaged too, such as the statistics of batch norm; integers are copied. The network has
    the averages during an evaluation and after training. A checkpoint has them as `state_dict`, and the
    weights that training continues with as `current_model_state`. A step takes a few launches on a GPU,
    and reads nothing back from it.

    Args:
        decay: above 0, below 1; None: chosen by `share`.
        share: the mean age of the averaged weights, as a share of the steps of the run, above 0 and
            below 1. Then averages of shorter and longer runs are alike, as in pycls, core/net.py
            (Dollar et al. 2021, arXiv:2103.06877).
    """

    def __init__(self, decay: float | None, share: float | None = None) -> None:
        self.decay, self.share = decay, share
        self._step = 0  # the last step that was averaged
        self._loaded: dict[str, Tensor] = {}  # averages of a checkpoint, on the CPU
        self._averages: dict[str, Tensor] = {}
        self._weights: dict[str, Tensor] = {}  # the network's own tensors, under the same names

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin with the averages of a checkpoint, else with the weights, on their device."""
        if self.share is not None:
            steps = getattr(pl_module, "steps", None) or trainer.estimated_stepping_batches
            self.decay = 1 - 1 / max(2.0, self.share * steps)
        self._weights = {name: tensor.detach() for name, tensor in _tensors(pl_module).items()}
        self._averages = {name: tensor.clone() for name, tensor in self._weights.items()}
        for name in self._loaded.keys() & self._averages.keys():
            self._averages[name].copy_(self._loaded[name])
        self._loaded = {}
        real = [name for name, one in self._weights.items() if one.is_floating_point()]
        whole = self._weights.keys() - set(real)
        self._real = [self._averages[name] for name in real], [self._weights[name] for name in real]
        self._whole = [self._averages[name] for name in whole], [self._weights[name] for name in whole]
        recorded = getattr(pl_module, "recorded_step", None)
        if recorded is not None:
            recorded.ends_with.append(self.update)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Average the weights, if the batch has ended with a step of the optimizer."""
        if trainer.global_step > self._step:
            if not getattr(pl_module, "is_replayed", False):  # else the replay has averaged them
                self.update()
            self._step = trainer.global_step

    def update(self) -> None:
        """Average the current weights, or copy them if nothing was averaged yet."""
        assert self.decay is not None
        if self._step:
            torch._foreach_lerp_(*self._real, 1 - self.decay)
        else:
            torch._foreach_copy_(*self._real)
        if self._whole[0]:
            torch._foreach_copy_(*self._whole)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate the averages."""
        self._swap()

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Train the weights again."""
        self._swap()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the averages in the network, also if a resumed run had no epoch left to train."""
        for name, tensor in _tensors(pl_module).items():  # back on the CPU
            tensor.detach().copy_(self._averages[name])
        self._averages, self._weights = {}, {}

    def state_dict(self) -> dict[str, Any]:
        """The last step that was averaged."""
        return {"latest_update_step": self._step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the last step that was averaged."""
        self._step = state_dict["latest_update_step"]

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the averages as the network's weights, and its weights beside them.

        Raises:
            UserError: if the network has replaced one of its tensors, which was then not averaged.
        """
        if not self._averages:
            return
        tensors = _tensors(pl_module)
        for name, tensor in tensors.items():
            if tensor.data_ptr() != self._weights[name].data_ptr():
                rule = "the network must change it in place, as by copy_(), to be averaged"
                typed = f"decay={self.decay}" if self.share is None else f"share={self.share}"
                raise UserError(f"recipe.ema_{typed}: {name} is now another tensor; {rule}")
        names = {id(tensor): name for name, tensor in tensors.items()}
        averages = {
            name: self._averages[names[id(tensor)]]
            for name, tensor in pl_module.state_dict(keep_vars=True).items()
            if id(tensor) in names
        }
        checkpoint["current_model_state"] = checkpoint["state_dict"]
        checkpoint["state_dict"] = {**checkpoint["state_dict"], **averages}

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restore the weights that training continues with, and keep the averages for on_fit_start."""
        if "current_model_state" in checkpoint:
            self._loaded = checkpoint["state_dict"]
            pl_module.load_state_dict(checkpoint["current_model_state"])

    def _swap(self) -> None:
        before = {name: tensor.clone() for name, tensor in self._weights.items()}
        for name, weight in self._weights.items():
            weight.copy_(self._averages[name])
            self._averages[name].copy_(before[name])


def _tensors(module: LightningModule) -> dict[str, Tensor]:
    """Parameters and buffers by name; a tensor with several names has its first."""
    return dict([*module.named_parameters(), *module.named_buffers()])
