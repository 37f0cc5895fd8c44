"""The LightningModule: a network, its loss, its optimizer and its exact metrics."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from densenet_cli.options import OptionError, UserError, number
from densenet_cli.training.checkpoints import ends_again

Batch = tuple[Tensor, Tensor]


class ImageClassifier(LightningModule):
    """Trains any network that maps images (N, 3, H, W) to logits (N, num_classes).

    Each epoch logs `<split>/loss` and `<split>/error`, and `<split>/top5_error` where there are more
    than five classes; errors in percent. Metrics are summed over all processes, so that every image
    counts once.

    Args:
        network: images -> logits.
        make_optimizer: parameters -> optimizer.
        make_schedule: optimizer -> learning-rate schedule. Of the arguments `epochs` and
            `total_steps` it is given those that it has and that are not yet set; one that takes
            `total_steps` is advanced every step, any other every epoch.
        num_classes: width of the logits.
        evaluation_split: the images evaluated after each epoch: "validation" (held out) or "test".
        seed: with epoch and batch it decides all random draws of a step, such as dropout masks, so
            that a resumed run draws what the unbroken one drew.
        label_smoothing: 0 (off) to below 1.
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
    ) -> None:
        super().__init__()
        number("label_smoothing", label_smoothing, example=0.1, at_least=0, below=1)
        self.network = network
        self.make_optimizer, self.make_schedule = make_optimizer, make_schedule
        self.evaluation_split = evaluation_split
        self.seed = seed
        self.label_smoothing = label_smoothing
        self.evaluated_at: int | None = None
        self.train_metrics = _metrics(num_classes)
        self.evaluation_metrics = self.train_metrics.clone()
        self.test_metrics = self.train_metrics.clone()

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, num_classes) of images (N, 3, H, W)."""
        return self.network(images)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed the step: its draws depend on (seed, epoch, batch, process) alone."""
        words = [self.seed, self.current_epoch, batch_idx, self.global_rank]
        torch.manual_seed(int(np.random.SeedSequence(words).generate_state(1)[0]))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The mean loss of a batch."""
        images, labels = batch
        logits = self.network(images).float()
        loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        _update(self.train_metrics, logits.detach(), labels, loss.detach())
        return loss

    def on_train_epoch_end(self) -> None:
        """Log the epoch's training metrics and learning rate."""
        if ends_again(self.trainer):
            return
        self._log_epoch("train", self.train_metrics)
        self.log("learning_rate", self._epoch_rate)

    def on_train_epoch_start(self) -> None:
        """Remember the rate of the epoch's first step, before the schedule changes it."""
        self._epoch_rate = self.trainer.optimizers[0].param_groups[0]["lr"]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count a batch of the images that each epoch is judged by."""
        self._evaluate(batch, self.evaluation_metrics)

    def on_validation_epoch_end(self) -> None:
        """Log the evaluation, and note of which step's network it is."""
        self._log_epoch(self.evaluation_split, self.evaluation_metrics)
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
        optimizer = self.make_optimizer(self.parameters())
        wanted = inspect.signature(self.make_schedule).parameters
        already = getattr(self.make_schedule, "keywords", {})
        known = {
            "epochs": self.trainer.max_epochs,
            "total_steps": self.trainer.estimated_stepping_batches,
        }
        given = {
            name: int(value or 0)
            for name, value in known.items()
            if name in wanted and already.get(name) is None
        }
        try:
            schedule = self.make_schedule(optimizer, **given)
        except OptionError as error:
            raise error.within("recipe.schedule") from error
        except (TypeError, ValueError, ArithmeticError) as error:
            raise UserError(f"recipe.schedule: {error}") from error
        interval = "step" if "total_steps" in wanted else "epoch"
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": interval},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what the broken epoch has counted so far, summed over all processes."""
        counted = {}
        for name, metric in self.train_metrics.items():
            with metric.sync_context(should_unsync=True):
                counted[name] = {key: getattr(metric, key).cpu() for key in metric._defaults}
        checkpoint["train_metrics"] = counted
        checkpoint["epoch_rate"] = getattr(self, "_epoch_rate", None)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on counting where the broken epoch stopped."""
        self._epoch_rate = checkpoint.get("epoch_rate")
        if self._trainer is None or self.global_rank > 0:
            return  # the sums of all processes are in rank 0's hands
        for name, values in checkpoint.get("train_metrics", {}).items():
            metric = self.train_metrics[name]
            metric._update_count = 1  # else compute() warns that nothing was counted
            for key, value in values.items():
                setattr(metric, key, value.to(self.device))

    def _evaluate(self, batch: Batch, metrics: MetricCollection) -> None:
        images, labels = batch
        logits = self.network(images).float()
        _update(metrics, logits, labels, F.cross_entropy(logits, labels))

    def _log_epoch(self, split: str, metrics: MetricCollection) -> None:
        values = metrics.compute()
        metrics.reset()
        self.log(f"{split}/loss", values.pop("loss"))
        for name, accuracy in values.items():
            self.log(f"{split}/{name}", 100 * (1 - accuracy.double()))

    def _share_buffers(self) -> None:
        """Give every process the batch-norm statistics of the first one.

        DDP could do so at every step; once an evaluation is enough, and training is the same.
        """
        if self.trainer.world_size > 1:
            for buffer in self.network.buffers():
                torch.distributed.broadcast(buffer, src=0)


class MeanLoss(Metric):
    """The mean loss of all images. torchmetrics' MeanMetric either reads every value back from the
    device, to drop NaN, or ignores that batches differ in size.
    """

    total: Tensor
    images: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros(()), dist_reduce_fx="sum")

    def update(self, loss: Tensor, images: int) -> None:
        """Count the mean loss of a batch of so many images."""
        self.total = self.total + loss * images
        self.images = self.images + images

    def compute(self) -> Tensor:
        """The mean over all images counted."""
        return self.total / self.images


def _metrics(num_classes: int) -> MetricCollection:
    """Mean loss, and accuracies under the names that their errors will have."""

    def accuracy(top_k: int) -> MulticlassAccuracy:
        # Checking the arguments would read the labels back from the device at every step.
        return MulticlassAccuracy(num_classes, top_k=top_k, average="micro", validate_args=False)

    metrics: dict[str, Metric | MetricCollection] = {
        "loss": MeanLoss(),
        "error": accuracy(1),
    }
    if num_classes > 5:
        metrics["top5_error"] = accuracy(5)
    return MetricCollection(metrics, compute_groups=False)


def _update(metrics: MetricCollection, logits: Tensor, labels: Tensor, loss: Tensor) -> None:
    for name, metric in metrics.items():
        if name == "loss":
            metric.update(loss, images=len(labels))
        else:
            metric.update(logits, labels)
