"""The LightningModule: a network with its loss, optimizer, learning-rate schedule and metrics."""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.utilities import GradClipAlgorithmType
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchmetrics import MetricCollection

from densenet_cli.options import OptionError, UserError
from densenet_cli.training import auxiliary, devices, host_choices, metrics, rate_tensors, schedules
from densenet_cli.training.cuda_graphs import CudaGraphs
from densenet_cli.training.flat_ddp import FlatDDP
from densenet_cli.training.losses import Loss
from densenet_cli.training.mixing import Mixing
from densenet_cli.training.rate_tensors import RateTensors
from densenet_cli.training.recorded_step import RecordedStep
from densenet_cli.training.warm_up import WarmUp

log = logging.getLogger(__name__)

Batch = tuple[Tensor, ...]  # images and labels; in training what `complete` takes, and how to mix them


class ImageClassifier(LightningModule):
    """Trains any network that maps images (N, 3, H, W) to logits (N, num_classes).

    In training mode it may return the logits of auxiliary classifiers too, see `auxiliary`.

    Each epoch logs `<split>/loss`, `<split>/error` and, for more than five classes,
    `<split>/top5_error`; errors in percent, none of them of auxiliary classifiers. An evaluation of
    classes that differ in size logs `<split>/balanced_error` too. Of images that can have several
    labels, `<split>/error` is 100 % minus the mean AUROC of the labels, and `<split>/f1` is their mean
    F1; see `label_metrics`. Metrics are summed over all processes: every image counts once. The label
    of a mixed training image is, for its error, that of the image with the larger share in it.

    The training loss is what is minimised, with smoothing and class weights; the others have neither.

    Args:
        network: images -> logits.
        make_optimizer: network -> optimizer.
        make_schedule: optimizer -> learning-rate schedule; see `schedules.complete`. A schedule that
            takes `total_steps` advances every step, any other every epoch. ReduceLROnPlateau is given
            the epoch's loss on the held-out images, or on the training images if none are held out.
        class_names: of the logits; or their number.
        evaluation_split: the images evaluated after each epoch: "validation" (held out) or "test".
        seed: decides, with epoch and batch, all random numbers of a step, such as dropout masks, so
            that a resumed run draws the same ones as an uninterrupted run.
        criterion: the loss; None: cross-entropy.
        frozen: modules of the network that stay in evaluation mode.
        warm_up: replaces the first learning rates of the schedule.
        reset_momentum_at_drops: whether the momentum is cleared when the schedule lowers the rate.
        mixing: mixes training images and labels in pairs.

    Attributes:
        epochs: if set, the epochs that the schedule is made for; else those of the run.
        is_spread: whether these epochs are spread evenly over the steps of the run, however many epochs
            those are. Then a schedule which advances every epoch does so within epochs.
        steps: if set, the steps of the run, which may end within an epoch.
        graphs: if set, computes the same as `network`, faster.
        recorded_step: if set, trains by the same steps, faster.
        is_replayed: whether the last step was replayed as a whole.
        complete: if set, makes images and labels of what the training loader gives.
        has_trained: whether a batch was trained since training started or resumed.
        evaluated_at: the step after which the network was last evaluated.
        skips_images: whether labels can be metrics.SKIPPED in evaluation.
        right: what the weights that were tested last made of each test image, see metrics.outcomes;
            None before the first test, and for images with several labels.
        trained_on: facts about the training images, as plain data; saved in checkpoints.
    """

    def __init__(
        self,
        network: nn.Module,
        make_optimizer: Callable[..., Optimizer],
        make_schedule: Callable[..., Any],
        class_names: int | Sequence[str],
        evaluation_split: str = "test",
        seed: int = 0,
        criterion: Loss | None = None,
        frozen: Sequence[nn.Module] = (),
        warm_up: WarmUp | None = None,
        reset_momentum_at_drops: bool = False,
        mixing: Mixing | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.epochs: int | None = None
        self.is_spread = False
        self.steps: int | None = None
        self.graphs: CudaGraphs | None = None
        self.recorded_step: RecordedStep | None = None
        self.complete: Callable[[Any], tuple[Tensor, Tensor]] | None = None
        self.is_replayed = self._is_per_step = self.skips_images = False
        self.make_optimizer, self.make_schedule = make_optimizer, make_schedule
        self.evaluation_split = evaluation_split
        self.seed = seed
        self.criterion = criterion or Loss()
        if isinstance(class_names, int):
            class_names = list(map(str, range(class_names)))
        self.class_names, self._warned = class_names, set[str]()
        self.frozen = tuple(frozen)
        self.warm_up, self.reset_momentum_at_drops = warm_up, reset_momentum_at_drops
        self.mixing = mixing
        self._generators = host_choices.generators(network)
        self.evaluated_at: int | None = None
        self.has_trained = False
        self._epoch_lr = 0.0
        self._is_counted = False
        self._held_out_loss: float | None = None
        self.right: Tensor | None = None
        self._right: list[Tensor] = []  # of the test's batches so far, in this process
        self.trained_on: dict[str, Any] = {}
        several, num_classes = self.criterion.several_labels, len(class_names)
        self.train_metrics = metrics.of_training(num_classes, several)
        self.evaluation_metrics = metrics.of_evaluation(num_classes, several)
        self.test_metrics = self.evaluation_metrics.clone()
        self.train()

    def train(self, mode: bool = True) -> ImageClassifier:
        """Set the mode of all modules except the frozen ones."""
        super().train(mode)
        for module in self.frozen:
            module.train(False)
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, num_classes) of images (N, 3, H, W)."""
        return self.network(images)

    def on_train_start(self) -> None:
        """Note that no batch was trained yet."""
        self.has_trained = False
        if self.trainer.world_size > 1 and not isinstance(self.trainer.strategy, FlatDDP):
            self.recorded_step = None  # gradients are exchanged within the backward pass

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed the step: its random numbers depend on (seed, epoch, batch, process) only.

        Those by which the network chooses what it computes are the same in all processes.
        """
        self.has_trained, self._is_counted = True, False
        host_choices.seed(self._generators, [self.seed, self.current_epoch, batch_idx])
        numbers = [self.seed, self.current_epoch, batch_idx, self.global_rank]
        devices.seed(int(np.random.SeedSequence(numbers).generate_state(1)[0]), self.device)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The mean loss of a batch; without a gradient if the whole step was replayed."""
        if self.mixing is not None:
            numbers = [self.seed, self.current_epoch, batch_idx]
            batch = (*batch, self.mixing.draw(numbers, self.device))
        replayed = None if self.recorded_step is None else self._replay(batch)
        self.is_replayed = replayed is not None
        if replayed is not None:
            return replayed
        is_whole = self.recorded_step is not None and self.recorded_step.is_possible
        network = self.network if is_whole else self.graphs or self.network
        loss = self.loss(batch, network, is_counted=not self._is_counted)
        self._is_counted = True  # optimizers such as LBFGS compute a batch several times
        return loss

    def loss(
        self, batch: Batch, network: Callable[[Tensor], Tensor], is_counted: bool = True
    ) -> Tensor:
        """The loss of a training batch to minimise; the metrics count its mean loss if asked to."""
        given = batch if self.mixing is None else batch[:-1]
        with torch.autocast(self.device.type, enabled=False):
            images, labels = given if self.complete is None else self.complete(given)
            targets = labels
            if self.mixing is not None:
                images, targets, labels = self.mixing(images, labels, batch[-1])
        outputs = network(images).float()
        loss, minimised = auxiliary.losses(outputs, targets, self.criterion)
        if is_counted:
            logits = auxiliary.logits(outputs).detach()
            metrics.update(self.train_metrics, logits, labels, loss.detach())
        return minimised

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """The backward pass, unless the step was replayed. The optimizer then finds no gradients."""
        if not self.is_replayed:
            super().backward(loss, *args, **kwargs)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """Remove gradients, of which a replayed step leaves none."""
        if not self.is_replayed:
            optimizer.zero_grad()

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip gradients, of fused optimizers too where no gradient scaler is used.

        Lightning's plugin for mixed precision refuses to, since with a scaler such an optimizer divides
        the gradients by its scale only later.
        """
        plugin = self.trainer.precision_plugin
        if isinstance(plugin, MixedPrecision) and plugin.scaler is None and gradient_clip_val:
            kind = GradClipAlgorithmType(gradient_clip_algorithm or "norm")
            Precision.clip_gradients(plugin, optimizer, gradient_clip_val, kind)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_train_epoch_end(self) -> None:
        """Log the epoch's training metrics and learning rate."""
        if not self.has_trained:  # see checkpoints.is_repeated_end
            return
        values = self._log_epoch("train", self.train_metrics)
        loss: float | None = values["loss"]
        self.log("learning_rate", self._epoch_lr)
        schedule = self.lr_schedulers()
        if isinstance(schedule, ReduceLROnPlateau):  # here, before the checkpoint is saved
            if self.evaluation_split == "validation":
                loss, self._held_out_loss = self._held_out_loss, None
            if loss is not None:
                self._advance(lambda: schedule.step(loss))
        if self.warm_up is not None:
            self.warm_up.after_epoch(values["error"], self.current_epoch + 1)

    def on_train_end(self) -> None:
        """Warn of a warm-up that never ended."""
        if self.warm_up is not None and not self.warm_up.is_over:
            log.warning("training has ended before its warm-up: raise epochs or change recipe.warm_up")

    def on_train_epoch_start(self) -> None:
        """Store the learning rate of the epoch's first step, before the schedule changes it."""
        self._epoch_lr = self.trainer.optimizers[0].param_groups[0]["lr"]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Evaluate a batch of the validation images, or of the test images if none are held out."""
        self._evaluate(batch, self.evaluation_metrics)

    def on_validation_epoch_end(self) -> None:
        """Log the evaluation, and note at which step it was made."""
        values = self._log_epoch(self.evaluation_split, self.evaluation_metrics)
        self._held_out_loss = values["loss"]
        self.evaluated_at = self.global_step

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Evaluate a batch of test images."""
        logits = self._evaluate(batch, self.test_metrics)
        if not self.criterion.several_labels:
            self._right.append(metrics.outcomes(logits, batch[1]))

    def on_test_epoch_end(self) -> None:
        """Log the test error and loss, and keep which images were classified correctly."""
        self._log_epoch("test", self.test_metrics)
        if self._right:
            self.right = metrics.of_all_processes(torch.cat(self._right)).cpu()

    def on_validation_epoch_start(self) -> None:
        """Let all processes evaluate the same network, which has its averaged weights by now."""
        self._share_buffers()

    def on_test_start(self) -> None:
        """Let all processes evaluate the same network."""
        self._share_buffers()
        self._right.clear()

    def configure_optimizers(self) -> Any:
        """The recipe's optimizer and schedule."""
        optimizer = self.make_optimizer(self.network)
        if self.warm_up is not None:
            self.warm_up.attach(optimizer)
        try:
            epochs = self.epochs or self.trainer.max_epochs
            steps = self.steps or self.trainer.estimated_stepping_batches
            schedule = schedules.complete(self.make_schedule, optimizer, epochs or 0, int(steps))
        except OptionError as error:
            raise error.within("recipe.schedule") from error
        except (TypeError, ValueError, ArithmeticError, AttributeError) as error:
            raise UserError(f"recipe.schedule: {error}") from error
        if self.warm_up is not None:
            self.warm_up.begin()
        if rate_tensors.are_needed(optimizer):
            RateTensors(optimizer)
        if isinstance(schedule, ReduceLROnPlateau) and schedule.mode != "min":
            rule = "must be min, since the schedule follows the loss"
            raise OptionError("recipe.schedule.mode", schedule.mode, rule, "min")
        self._is_per_step = "total_steps" in inspect.signature(self.make_schedule).parameters
        is_each_step = self._is_per_step or self.is_spread or self.warm_up is not None
        return {
            "optimizer": optimizer,
            "lr_scheduler": {
                "scheduler": schedule,
                "interval": "step" if is_each_step else "epoch",
                "reduce_on_plateau": False,  # see on_train_epoch_end
            },
        }

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Advance the schedule, unless it needs the epoch's loss; end the warm-up if it is time."""
        if not isinstance(scheduler, ReduceLROnPlateau):
            for _ in range(self._advances()):
                self._advance(scheduler.step)
        if self.warm_up is not None:
            self.warm_up.after_step(self.trainer.global_step)

    def _advance(self, step: Callable[[], Any]) -> None:
        """Advance the schedule once, from its own rates, and clear the momentum if it asks for that."""
        group = self.trainer.optimizers[0].param_groups[0]
        with self.warm_up.aside() if self.warm_up is not None else contextlib.nullcontext():
            before = group["lr"]
            step()
            if self.reset_momentum_at_drops and group["lr"] < before:
                schedules.clear_momentum(self.trainer.optimizers[0])

    def _advances(self) -> int:
        """How often the schedule advances after this step: each step, or by epochs.

        The epochs end where those of the data do, or are spread over the steps of the run.
        """
        if self._is_per_step:
            return 1
        if not self.is_spread or self.epochs is None or self.steps is None:
            return int(self.warm_up is None or self.trainer.is_last_batch)
        step = self.trainer.global_step
        return step * self.epochs // self.steps - (step - 1) * self.epochs // self.steps

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save facts about the training images, and the metrics of an epoch that is not complete."""
        checkpoint["trained_on"] = self.trained_on
        checkpoint["train_metrics"] = metrics.sums(self.train_metrics)
        checkpoint["epoch_lr"] = self._epoch_lr
        if self.warm_up is not None:
            checkpoint["warm_up"] = self.warm_up.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the metrics of an epoch that is not complete: all sums in the first process."""
        self._epoch_lr = checkpoint["epoch_lr"]
        if self.warm_up is not None:
            self.warm_up.load_state_dict(checkpoint["warm_up"])
        if self.global_rank > 0:
            return
        metrics.load_sums(self.train_metrics, checkpoint["train_metrics"], self.device)

    def _logits(self, images: Tensor) -> Tensor:
        """Logits in float32, valid until the next pass.

        Of several crops of each image, (n, crops, C, H, W), they are the means: fb.resnet.torch takes
        their sums, train.lua, which makes the same errors.
        """
        network, crops = self.graphs or self.network, images.shape[:2]
        if images.ndim == 5:
            return network(images.flatten(0, 1)).float().unflatten(0, crops).mean(1)
        return network(images).float()

    def _replay(self, batch: Batch) -> Tensor | None:
        """The loss of a step that was replayed; None if it must be computed."""
        assert self.recorded_step is not None
        optimizer, strategy = self.trainer.optimizers[0], self.trainer.strategy
        processes = strategy if isinstance(strategy, FlatDDP) else None
        return self.recorded_step(batch, optimizer, functools.partial(self._clip, optimizer), processes)

    def _clip(self, optimizer: Optimizer) -> None:
        norm, kind = self.trainer.gradient_clip_val, self.trainer.gradient_clip_algorithm
        self.configure_gradient_clipping(optimizer, norm, kind)

    def _evaluate(self, batch: Batch, measured: MetricCollection) -> Tensor:
        """Measure a batch; its logits, valid until the next pass."""
        images, labels = batch
        logits = self._logits(images)
        loss = self.criterion.of_evaluation
        metrics.update_evaluated(measured, logits, labels, loss, self.skips_images)
        return logits

    def _log_epoch(self, split: str, measured: MetricCollection) -> dict[str, float]:
        """Log the metrics of an epoch, and reset them; the same as numbers."""
        values = metrics.compute(measured)
        if split not in self._warned and metrics.warn_of_left_out(measured, split, self.class_names):
            self._warned.add(split)
        for name, value in values.items():
            self.log(f"{split}/{name}", value)
        measured.reset()
        return {name: float(value) for name, value in values.items()}

    def _share_buffers(self) -> None:
        """Give all processes the batch-norm statistics of the first one.

        Once per evaluation is enough: training does not use them. DDP would do it at every step.
        """
        if self.trainer.world_size > 1:
            for buffer in self.network.buffers():
                torch.distributed.broadcast(buffer, src=0)
