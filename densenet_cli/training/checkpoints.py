"""Checkpoints: when last.ckpt and best.ckpt are saved, and how they are read."""

from __future__ import annotations

import logging
import math
import os
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from densenet_cli.files.atomic_file import replace_by_link, replace_file
from densenet_cli.files.tensor_file import UnreadableTensors, find_weights, read_tensors, rename_weights
from densenet_cli.options import UserError
from densenet_cli.training.interruption import Interrupted, Interruption

log = logging.getLogger(__name__)

AGREE_EVERY = 16  # the most steps after which several processes exchange their wishes
AGREE_S = 2.0  # the most seconds: after SIGTERM, SIGKILL may follow soon
KEEP, SAVE, STOP = 0, 1, 2  # wishes: continue, save, save and stop (STOP + a signal's number)


class WholeFileCheckpointIO(TorchCheckpointIO):
    """Replaces a checkpoint as a whole: a kill leaves the old file or the new one."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Write the checkpoint. Raises UserError, as on a full disk."""
        replace_file(Path(path), lambda file: torch.save(checkpoint, file))

    def load_checkpoint(self, path: Any, *_: Any, **__: Any) -> dict[str, Any]:
        """The checkpoint from which training resumes.

        Raises:
            UserError: if it cannot be read, or is not one of a run.
        """
        checkpoint = load_checkpoint(Path(path))
        position(checkpoint)
        return checkpoint


class Checkpoints(Checkpoint):
    """Saves last.ckpt after every epoch, every few minutes, and when the run is interrupted.

    best.ckpt is the last.ckpt of the epoch with the lowest value of `monitor`; or what was saved at an
    evaluation within an epoch (trainer.val_check_interval), if that had the lowest. Lightning calls a
    Checkpoint after the module's own hooks, so that it can monitor what the module has logged.

    Args:
        folder: where the two files are written.
        monitor: the logged metric, lower is better.
        minutes: the longest time between two saves within an epoch.
        interruption: the signals that stop training.

    Attributes:
        best_value: the lowest value of `monitor` so far.
        best_epoch: the epoch that it belongs to, from 1.
        best_step: the step after which it was found, if that was within the epoch.
    """

    def __init__(self, folder: Path, monitor: str, minutes: float, interruption: Interruption) -> None:
        self.last, self.best = folder / "last.ckpt", folder / "best.ckpt"
        self.monitor, self.minutes, self.interruption = monitor, minutes, interruption
        self.best_value: float | None = None
        self.best_epoch: int | None = None
        self.best_step: int | None = None
        self._position = (0, 0)  # epoch and batch that come next, from 0
        self._saved_at = self._agreed_at = time.monotonic()
        self._agree_after, self._steps = 1, 0  # steps between two exchanges; steps since the last one

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let signals wait from now on until the run's state is saved."""
        self.interruption.defer()
        self._saved_at = self._agreed_at = time.monotonic()
        self._steps = 1
        self._stop_if_agreed(self._agreed_wish(trainer, now=True))
        self._agree_after = 1  # how long a step takes is not known yet

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Within an epoch: save if it is time, stop if a signal has come."""
        self._position = (trainer.current_epoch, batch_idx + 1)
        if trainer.is_last_batch or trainer.should_stop:
            return  # the epoch's end comes next
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return  # accumulated gradients are not saved
        if _is_evaluation_due(trainer, batch_idx):
            return  # a run that resumed from here would leave out the evaluation
        wish = self._agreed_wish(trainer)
        if wish >= SAVE:
            self._save(trainer, self.last)
        self._stop_if_agreed(wish)

    def on_validation_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Stop at once if this is the only process; several agree at the end of the epoch.

        An evaluation within an epoch is completed: after the next step the run is saved, and stops.
        """
        if not is_within_epoch(trainer):
            self._stop_if_alone()

    def on_test_batch_end(self, *_: Any) -> None:
        """The same; the trained network is saved already."""
        self._stop_if_alone()

    def on_test_start(self, *_: Any) -> None:
        """Let several processes end the test before they stop: Trainer.test has set other handlers."""
        if torch.distributed.is_initialized():
            self.interruption.defer()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the epoch, also as the best one if it is."""
        if is_repeated_end(pl_module):
            return
        self._position = (trainer.current_epoch + 1, 0)
        if self._is_best(trainer, pl_module):
            self.best_step = None
            # best.ckpt first: if the process is killed between the two, the epoch is trained again.
            self._save(trainer, self.best)
            if trainer.is_global_zero:
                replace_by_link(self.best, self.last)
        else:
            self._save(trainer, self.last)
        self._stop_if_agreed(self._agreed_wish(trainer, now=True))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the best weights so far, if this evaluation within an epoch has found them."""
        if is_within_epoch(trainer) and self._is_best(trainer, pl_module):
            self.best_step = trainer.global_step
            trainer.save_checkpoint(self.best)

    def state_dict(self) -> dict[str, Any]:
        """The best epoch so far, and the epoch and batch that come next."""
        state = {name: getattr(self, name) for name in ("best_value", "best_epoch", "best_step")}
        return {**state, "position": list(self._position)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best epoch so far."""
        self.best_value, self.best_epoch = state_dict["best_value"], state_dict["best_epoch"]
        self.best_step = state_dict.get("best_step")

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Let the data continue with the batch that comes next."""
        epoch, batch = position(checkpoint)
        log.info("resuming at epoch %d, batch %d", epoch + 1, batch + 1)
        trainer.datamodule.resume_at(epoch, batch)  # type: ignore[attr-defined]

    def _is_best(self, trainer: Trainer, module: LightningModule) -> bool:
        """Whether the current weights were evaluated and are the best so far, which is then noted."""
        logged = trainer.callback_metrics.get(self.monitor) if is_evaluated(module) else None
        value = None if logged is None else round(float(logged), 4)
        if (
            value is None
            or math.isnan(value)
            or (self.best_value is not None and value >= self.best_value)
        ):
            return False
        self.best_value, self.best_epoch = value, trainer.current_epoch + 1
        return True

    def _save(self, trainer: Trainer, path: Path) -> None:
        trainer.save_checkpoint(path)
        self._saved_at = time.monotonic()

    def _agreed_wish(self, trainer: Trainer, now: bool = False) -> int:
        """The wish of this process, or the highest of all processes: they save and stop together."""
        overdue = time.monotonic() - self._saved_at > 60 * self.minutes
        signum = self.interruption.signum
        wish = STOP + signum if signum else SAVE if overdue else KEEP
        if trainer.world_size == 1:
            return wish
        self._steps += 1
        if not now and self._steps < self._agree_after:
            return KEEP
        took = (time.monotonic() - self._agreed_at) / self._steps
        wishes = torch.tensor([wish, took], device=trainer.strategy.root_device)
        torch.distributed.all_reduce(wishes, torch.distributed.ReduceOp.MAX)
        agreed, took = wishes.tolist()  # both the same in all processes
        self._agree_after = max(1, min(AGREE_EVERY, int(AGREE_S / max(took, 1e-6))))
        self._agreed_at, self._steps = time.monotonic(), 0
        return int(agreed)

    def _stop_if_alone(self) -> None:
        if not torch.distributed.is_initialized():
            self.interruption.check()

    def _stop_if_agreed(self, wish: int) -> None:
        """Raise Interrupted with the signal that one of the processes was sent."""
        if wish > STOP:
            raise Interrupted(wish - STOP)


def is_repeated_end(module: LightningModule) -> bool:
    """Whether Lightning, resumed from the end of an epoch, is calling the hooks of that end again."""
    return not getattr(module, "has_trained", True)


def is_evaluated(module: LightningModule) -> bool:
    """Whether the logged evaluation is that of the current weights, and not of an earlier step."""
    return getattr(module, "evaluated_at", None) == module.global_step


def is_within_epoch(trainer: Trainer) -> bool:
    """Whether an evaluation that ends now is within an epoch, as by trainer.val_check_interval."""
    return not (trainer.sanity_checking or trainer.is_last_batch or trainer.should_stop)


def _is_evaluation_due(trainer: Trainer, batch_idx: int) -> bool:
    """Whether Lightning evaluates the network after this batch."""
    every, interval = trainer.check_val_every_n_epoch, trainer.val_check_batch
    assert interval is not None  # see trainer_options
    if every is None:  # the interval counts the batches of all epochs
        return (trainer.fit_loop.total_batch_idx + 1) % interval == 0
    return (trainer.current_epoch + 1) % every == 0 and (batch_idx + 1) % interval == 0


def load_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's content, on the CPU; code in it is never executed (weights_only).

    Returns:
        The content, with the weights under "state_dict", also if another program wrote the file.

    Raises:
        UserError: if the file is missing or damaged, or contains no weights.
    """
    path = Path(os.path.expanduser(path))
    if path.is_dir():
        raise UserError(f"checkpoint={path}: is a folder; name a file in it: checkpoints/last.ckpt")
    if not path.is_file():
        raise UserError(f"checkpoint={path}: there is no such file")
    try:
        checkpoint = read_tensors(path)
    except UnreadableTensors as error:
        raise UserError(f"checkpoint={path}: cannot be read as a checkpoint: {error}") from error
    if (found := find_weights(checkpoint)) is None:
        raise UserError(f"checkpoint={path}: contains no weights (a state_dict of tensors by name)")
    weights, place = found
    return {**(checkpoint if place else {}), "state_dict": weights}


def position(checkpoint: dict[str, Any]) -> tuple[int, int]:
    """The epoch and batch, both from 0, with which training continues after a checkpoint.

    Raises:
        UserError: if the checkpoint does not contain them.
    """
    try:
        epoch, batch = checkpoint["callbacks"][Checkpoints.__qualname__]["position"]
        return int(epoch), int(batch)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"the checkpoint does not say how far training was: {error!r}") from error


def load_weights(network: torch.nn.Module, checkpoint: dict[str, Any], path: Path) -> None:
    """Load a checkpoint's weights into a network; names and shapes must match.

    Raises:
        UserError: if the weights are those of another network.
    """
    ours = network.state_dict()
    try:
        theirs = rename_weights(checkpoint["state_dict"], ours)
    except UnreadableTensors as error:
        raise UserError(f"checkpoint={path}: {error}") from error
    other_names = sorted(set(theirs) ^ set(ours))
    other_shapes = [name for name in ours if name in theirs and theirs[name].shape != ours[name].shape]
    if other_names or other_shapes:
        if other_names:
            owner = "only the checkpoint" if other_names[0] in theirs else "only the network"
            reason = f"{owner} has {other_names[0]}"
        else:
            name = other_shapes[0]
            shapes = tuple(theirs[name].shape), tuple(ours[name].shape)
            reason = f"{name} is {shapes[0]} in the checkpoint and {shapes[1]} in the network"
        raise UserError(
            f"checkpoint={path}: contains the weights of another network than model=...: "
            f"{len(other_names) + len(other_shapes)} tensors differ; {reason}"
        )
    try:
        network.load_state_dict(theirs)
    except (RuntimeError, NotImplementedError) as error:  # for example of sparse tensors
        reason = " ".join(str(error).split())
        raise UserError(f"checkpoint={path}: its weights cannot be used: {reason}") from error
