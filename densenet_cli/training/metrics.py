"""Metrics of every batch: the mean loss, and the share of images that are predicted wrongly.

Those of images with several labels are in `label_metrics`.

No metric reads a value from the device before the epoch ends: a GPU would have to wait. All sums are
updated in place, as a recorded step needs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from densenet_cli.training.label_metrics import BinnedRankingError, LabelMetric, MacroF1, RankingError

log = logging.getLogger(__name__)

SKIPPED = -1  # the label, or each of several, of an image that could not be read
ALIKE = 1.1  # classes differ in size if the largest has more images than this times the smallest


class MeanLoss(Metric):
    """The mean loss of all images.

    torchmetrics' MeanMetric reads every value from the device, to check for NaN; without this check it
    does not weight batches by their size.
    """

    total: Tensor
    images: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros(()), dist_reduce_fx="sum")

    def update(self, loss: Tensor, images: int) -> None:
        """Add the mean loss of a batch with this number of images."""
        self.total += loss * images
        self.images += images

    def compute(self) -> Tensor:
        """The mean over all images."""
        return self.total / self.images


class ErrorRate(Metric):
    """Percentage of images whose label is not among the `top_k` classes with the highest logits.

    It is 100 x (1 - accuracy) of torchmetrics' MulticlassAccuracy, without one-hot encoding the labels.
    """

    wrong: Tensor
    images: Tensor

    def __init__(self, top_k: int = 1) -> None:
        super().__init__()
        self.top_k = top_k
        self.add_state("wrong", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: logits (N, classes), labels (N,)."""
        self.wrong += (~are_right(logits, labels, self.top_k)).sum()
        self.images += len(labels)

    def compute(self) -> Tensor:
        """The percentage of all images."""
        return 100 * self.wrong / self.images


class BalancedError(Metric):
    """The mean over the classes of the percentage of each class's images that are classified wrongly.

    It is NaN, and `compute` leaves it out, where all classes have about the same number of images: the
    error says the same. Classes without images are left out of the mean.
    """

    wrong: Tensor
    images: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        for name in ("wrong", "images"):
            self.add_state(name, torch.zeros(num_classes, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: logits (N, classes), labels (N,)."""
        self.images.scatter_add_(0, labels, torch.ones_like(labels))
        self.wrong.scatter_add_(0, labels, (~are_right(logits, labels)).long())

    def compute(self) -> Tensor:
        """The mean over the classes."""
        counts = self.images[self.images > 0]
        if len(counts) < 2 or counts.max() <= ALIKE * counts.min():
            return torch.tensor(torch.nan)
        return (100 * self.wrong[self.images > 0] / counts).mean()


def are_right(logits: Tensor, labels: Tensor, top_k: int = 1) -> Tensor:
    """Whether each label is among its image's `top_k` classes: (N, classes), (N,) -> (N,) bool.

    An image with a NaN among its logits has no right label: NaN would rank highest.
    """
    found = (likeliest(logits, top_k) == labels[:, None]).any(1)
    return found & ~logits.isnan().any(1)


def outcomes(logits: Tensor, labels: Tensor) -> Tensor:
    """Of each image: 1 if its label is the likeliest class, 0 if not, SKIPPED if it has none: int8."""
    return are_right(logits, labels).to(torch.int8).masked_fill(labels == SKIPPED, SKIPPED)


def of_all_processes(own: Tensor) -> Tensor:
    """What all processes found, in the order of the data set.

    Args:
        own: (n,) int8 of the images r, r + R, ..., which process r of R evaluates.

    Returns:
        (images,) int8, the same in every process.
    """
    if not torch.distributed.is_initialized():
        return own
    rank, processes = torch.distributed.get_rank(), torch.distributed.get_world_size()
    images = torch.tensor(len(own), device=own.device)
    torch.distributed.all_reduce(images)
    found = torch.zeros(int(images), dtype=own.dtype, device=own.device)
    found[rank::processes] = own
    torch.distributed.all_reduce(found)
    return found


def rounded(name: str, value: Tensor) -> float:
    """A metric's value as records contain it: errors with 4 decimals, losses with 6."""
    return round(float(value), 4 if name.endswith("error") else 6)


def likeliest(logits: Tensor, count: int) -> Tensor:
    """The classes with the highest logits, the highest first: (N, classes) -> (N, count) int64.

    Equal logits are frequent in bfloat16; among them the class with the lower number comes first, on
    every device. torch.topk promises no order of equal values, and argmax and topk may disagree.
    """
    if count == 1:
        return logits.argmax(1, keepdim=True)
    return logits.argsort(dim=1, descending=True, stable=True)[:, :count]


def of_training(num_classes: int, several_labels: bool = False) -> MetricCollection:
    """Mean loss and errors by the names they are logged with; top-5 error only for over 5 classes.

    Their sums have the same size at all times.
    """
    return MetricCollection(_of_training(num_classes, several_labels), compute_groups=False)


def of_evaluation(num_classes: int, several_labels: bool = False) -> MetricCollection:
    """Those of training, the error of several labels without rounding; and the balanced error."""
    metrics = _of_training(num_classes, several_labels)
    if several_labels:
        metrics["error"] = RankingError()
    else:
        metrics["balanced_error"] = BalancedError(num_classes)
    return MetricCollection(metrics, compute_groups=False)


def _of_training(num_classes: int, several_labels: bool) -> dict[str, Metric | MetricCollection]:
    if several_labels:
        return {
            "loss": MeanLoss(),
            "error": BinnedRankingError(num_classes),
            "f1": MacroF1(num_classes),
        }
    top5 = {"top5_error": ErrorRate(top_k=5)} if num_classes > 5 else {}
    return {"loss": MeanLoss(), "error": ErrorRate(), **top5}


def compute(metrics: MetricCollection) -> dict[str, Tensor]:
    """The metrics of all batches so far, by name."""
    values = metrics.compute()
    if "balanced_error" in values and values["balanced_error"].isnan():
        del values["balanced_error"]
    return values


def warn_of_left_out(metrics: MetricCollection, split: str, class_names: Sequence[str]) -> bool:
    """Warn of labels that the means just computed leave out, if there are any; whether there are."""
    error = metrics["error"]
    if not isinstance(error, LabelMetric) or not error.left_out:
        return False
    names = ", ".join(class_names[label] for label in error.left_out)
    log.warning(
        "no %s image or every one has the label %s: left out of the mean AUROC and F1", split, names
    )
    return True


def update(metrics: MetricCollection, logits: Tensor, labels: Tensor, loss: Tensor) -> None:
    """Add a batch: its logits (N, classes), its labels and its mean loss."""
    for name, metric in metrics.items():
        if name == "loss":
            metric.update(loss, images=len(labels))
        else:
            metric.update(logits, labels)


def update_evaluated(
    metrics: MetricCollection,
    logits: Tensor,
    labels: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    can_skip: bool,
) -> None:
    """Add a batch of images that training does not see, without those that were skipped.

    Args:
        loss: logits and labels -> the mean loss.
        can_skip: whether there can be such images. To count them, the CPU waits for the device.
    """
    if can_skip:
        is_there = labels.flatten(1).ne(SKIPPED).any(1) if labels.ndim > 1 else labels != SKIPPED
        logits, labels = logits[is_there], labels[is_there]
    if len(labels):
        update(metrics, logits, labels, loss(logits, labels))


def sums(metrics: MetricCollection) -> dict[str, dict[str, Tensor]]:
    """The sums of all processes, on the CPU, by the names of metric and sum."""
    found = {}
    for name, metric in metrics.items():
        with metric.sync_context(should_unsync=True):
            found[name] = {key: getattr(metric, key).cpu() for key in metric.metric_state}
    return found


def load_sums(
    metrics: MetricCollection, sums: dict[str, dict[str, Tensor]], device: torch.device
) -> None:
    """Continue with sums that were saved."""
    for name, values in sums.items():
        for key, value in values.items():
            setattr(metrics[name], key, value.to(device))


class States:
    """The sums of metrics at the addresses where a recorded step updates them.

    A metric gets new tensors when it is reset, and when a checkpoint is saved or loaded.
    """

    def __init__(self, metrics: MetricCollection) -> None:
        self._metrics = list(metrics.values())
        self._states = [
            (metric, name, getattr(metric, name))
            for metric in self._metrics
            for name in metric.metric_state
        ]

    def take_over(self) -> None:
        """Let the metrics have their present values at these addresses, and count as updated."""
        for metric, name, state in self._states:
            now = getattr(metric, name)
            if now is not state:
                state.copy_(now)
                setattr(metric, name, state)
        for metric in self._metrics:
            metric._update_count += 1  # else compute() would warn that there was no update
