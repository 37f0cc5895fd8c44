"""The LightningModule: a network, its loss, its optimizer and its exact metrics."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchmetrics import MetricCollection

from densenet_cli.options import OptionError, UserError, number
from densenet_cli.training import metrics
from densenet_cli.training.cuda_graphs import CudaGraphs

Batch = tuple[Tensor, Tensor]


class ImageClassifier(LightningModule):
    """Trains any network that maps images (N, 3, H, W) to logits (N, num_classes).

    Each epoch logs `<split>/loss` and `<split>/error`, and `<split>/top5_error` where there are more
    than five classes; errors in percent. Metrics are summed over all processes, so that every image
    counts once.

    Args:
        network: images -> logits.
        make_optimizer: network -> optimizer.
        make_schedule: optimizer -> learning-rate schedule. Of the arguments `epochs` and
            `total_steps` it is given those that it has and that are not yet set; one that takes
            `total_steps` is advanced every step, any other every epoch. ReduceLROnPlateau is given the
            epoch's loss: of the held-out images, else of the training images. `schedulers` among its
            arguments are schedules of which it is composed, made in the same way.
        num_classes: width of the logits.
        evaluation_split: the images evaluated after each epoch: "validation" (held out) or "test".
        seed: with epoch and batch it decides all random draws of a step, such as dropout masks, so
            that a resumed run draws what the unbroken one drew.
        label_smoothing: 0 (off) to below 1.
        frozen: modules of the network that stay in evaluation mode.

    Attributes:
        graphs: computes what `network` does, faster, if it is set.
        has_trained: whether a batch was trained since training started or resumed.
        evaluated_at: the step after which the network was last evaluated.
        trained_on: what is known of the images it is trained on, as plain data; checkpoints keep it.
    """

    def __init__(
        self,
        network: nn.Module,
        make_optimizer: Callable[..., Optimizer],
        make_schedule: Callable[..., Any],
        num_classes: int,
        evaluation_split: str = "test",
        seed: int = 0,
        label_smoothing: float = 0.0,
        frozen: Sequence[nn.Module] = (),
    ) -> None:
        super().__init__()
        number("label_smoothing", label_smoothing, example=0.1, at_least=0, below=1)
        self.network = network
        self.graphs: CudaGraphs | None = None
        self.make_optimizer, self.make_schedule = make_optimizer, make_schedule
        self.evaluation_split = evaluation_split
        self.seed = seed
        self.label_smoothing = label_smoothing
        self.frozen = tuple(frozen)
        self.evaluated_at: int | None = None
        self.has_trained = False
        self._is_counted = False
        self._held_out_loss: float | None = None
        self.trained_on: dict[str, Any] = {}
        self.train_metrics = metrics.of_classification(num_classes)
        self.evaluation_metrics = self.train_metrics.clone()
        self.test_metrics = self.train_metrics.clone()
        self.train()

    def train(self, mode: bool = True) -> ImageClassifier:
        """Set the mode of all modules but the frozen ones."""
        super().train(mode)
        for module in self.frozen:
            module.train(False)
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, num_classes) of images (N, 3, H, W)."""
        return self.network(images)

    def on_train_start(self) -> None:
        """Note that nothing was trained yet."""
        self.has_trained = False

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed the step: its draws depend on (seed, epoch, batch, process) alone."""
        self.has_trained, self._is_counted = True, False
        words = [self.seed, self.current_epoch, batch_idx, self.global_rank]
        _seed(int(np.random.SeedSequence(words).generate_state(1)[0]), self.device)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The mean loss of a batch."""
        images, labels = batch
        logits = self._logits(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        if not self._is_counted:  # an optimizer as LBFGS computes a batch several times
            metrics.update(self.train_metrics, logits.detach(), labels, loss.detach())
            self._is_counted = True
        return loss

    def on_train_epoch_end(self) -> None:
        """Log the epoch's training metrics and learning rate."""
        if not self.has_trained:  # see checkpoints.is_repeated_end
            return
        loss: float | None = self._log_epoch("train", self.train_metrics)
        self.log("learning_rate", self._epoch_rate)
        schedule = self.lr_schedulers()
        if isinstance(schedule, ReduceLROnPlateau):  # now, for the checkpoint to be saved next holds it
            if self.evaluation_split == "validation":
                loss, self._held_out_loss = self._held_out_loss, None
            if loss is not None:
                schedule.step(loss)

    def on_train_epoch_start(self) -> None:
        """Remember the rate of the epoch's first step, before the schedule changes it."""
        self._epoch_rate = self.trainer.optimizers[0].param_groups[0]["lr"]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count a batch of the images that each epoch is judged by."""
        self._evaluate(batch, self.evaluation_metrics)

    def on_validation_epoch_end(self) -> None:
        """Log the evaluation, and note of which step's network it is."""
        self._held_out_loss = self._log_epoch(self.evaluation_split, self.evaluation_metrics)
        self.evaluated_at = self.global_step

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Count a batch of test images."""
        self._evaluate(batch, self.test_metrics)

    def on_test_epoch_end(self) -> None:
        """Log the test."""
        self._log_epoch("test", self.test_metrics)

    def on_validation_start(self) -> None:
        """Let every process judge the same network."""
        self._share_buffers()

    def on_test_start(self) -> None:
        """Let every process judge the same network."""
        self._share_buffers()

    def configure_optimizers(self) -> Any:
        """The recipe's optimizer and schedule."""
        optimizer = self.make_optimizer(self.network)
        try:
            schedule = self._schedule(self.make_schedule, optimizer)
        except OptionError as error:
            raise error.within("recipe.schedule") from error
        except (TypeError, ValueError, ArithmeticError, AttributeError) as error:
            raise UserError(f"recipe.schedule: {error}") from error
        if isinstance(schedule, ReduceLROnPlateau) and schedule.mode != "min":
            rule = "must be min, since it judges by the loss"
            raise OptionError("recipe.schedule.mode", schedule.mode, rule, "min")
        is_of_steps = "total_steps" in inspect.signature(self.make_schedule).parameters
        return {
            "optimizer": optimizer,
            "lr_scheduler": {
                "scheduler": schedule,
                "interval": "step" if is_of_steps else "epoch",
                "reduce_on_plateau": False,  # see on_train_epoch_end
            },
        }

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Advance a schedule, unless it waits for the epoch's loss."""
        if not isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step()

    def _schedule(self, make: Callable[..., Any], optimizer: Optimizer) -> Any:
        """What `make` makes, given what it wants of the arguments that it has not."""
        wanted, already = inspect.signature(make).parameters, getattr(make, "keywords", {})
        known = {
            "epochs": self.trainer.max_epochs,
            "total_steps": self.trainer.estimated_stepping_batches,
        }
        given: dict[str, Any] = {
            name: int(value or 0)
            for name, value in known.items()
            if name in wanted and already.get(name) is None
        }
        if "max_lr" in already:  # else all stages of the network would get the same
            rate, highest = optimizer.defaults["lr"], already["max_lr"]
            given["max_lr"] = [highest * group["lr"] / rate for group in optimizer.param_groups]
        if "schedulers" in already:
            given["schedulers"] = [self._schedule(part, optimizer) for part in already["schedulers"]]
        if "optimizer" in wanted:
            return make(optimizer=optimizer, **given)
        return make(optimizer, **given)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what it is trained on, and what all processes have counted in the broken epoch."""
        checkpoint["trained_on"] = self.trained_on
        counted = {}
        for name, metric in self.train_metrics.items():
            with metric.sync_context(should_unsync=True):
                counted[name] = {key: getattr(metric, key).cpu() for key in metric.metric_state}
        checkpoint["train_metrics"] = counted
        checkpoint["epoch_rate"] = getattr(self, "_epoch_rate", None)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on counting where the broken epoch stopped."""
        self._epoch_rate = checkpoint["epoch_rate"]
        if self.global_rank > 0:
            return  # the first process holds the sums of all processes
        for name, values in checkpoint["train_metrics"].items():
            for key, value in values.items():
                setattr(self.train_metrics[name], key, value.to(self.device))

    def _logits(self, images: Tensor) -> Tensor:
        """In float32, valid until the next pass."""
        return (self.graphs or self.network)(images).float()

    def _evaluate(self, batch: Batch, counted: MetricCollection) -> None:
        images, labels = batch
        logits = self._logits(images)
        metrics.update(counted, logits, labels, F.cross_entropy(logits, labels))

    def _log_epoch(self, split: str, counted: MetricCollection) -> float:
        """Log what was counted; the mean loss."""
        values = counted.compute()
        for name, value in values.items():
            self.log(f"{split}/{name}", value)
        counted.reset()
        return float(values["loss"])

    def _share_buffers(self) -> None:
        """Give every process the batch-norm statistics of the first one.

        DDP could do so at every step; once an evaluation is enough, and training is the same.
        """
        if self.trainer.world_size > 1:
            for buffer in self.network.buffers():
                torch.distributed.broadcast(buffer, src=0)


def _seed(seed: int, device: torch.device) -> None:
    """What torch.manual_seed does, without a millisecond for kinds of devices that are absent."""
    if device.type not in ("cpu", "cuda"):
        torch.manual_seed(seed)
        return
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
