"""What is counted of every batch: the loss, and how many images were taken for something else.

No metric reads a value back from the device before the epoch ends, which would make a GPU wait.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection


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


class ErrorRate(Metric):
    """Percentage of images whose label is not among those of the `top_k` highest logits.

    One less torchmetrics' MulticlassAccuracy, which makes all labels one-hot first. The counts have
    the names that they have there, tp (right) and fn (wrong), and had in older checkpoints.
    """

    tp: Tensor
    fn: Tensor

    def __init__(self, top_k: int = 1) -> None:
        super().__init__()
        self.top_k = top_k
        self.add_state("tp", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("fn", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Count a batch: logits (N, classes), labels (N,)."""
        right = are_right(logits, labels, self.top_k).sum()
        self.tp = self.tp + right
        self.fn = self.fn + (len(labels) - right)

    def compute(self) -> Tensor:
        """The percentage of all images counted."""
        return 100 * self.fn / (self.tp + self.fn)


def are_right(logits: Tensor, labels: Tensor, top_k: int = 1) -> Tensor:
    """Whether each label is among those of the `top_k` highest logits: (N, classes), (N,) -> (N,) bool.

    Where a logit is NaN the network has given no answer, and no label is right: NaN would rank highest.
    """
    found = (likeliest(logits, top_k) == labels[:, None]).any(1)
    return found & ~logits.isnan().any(1)


def recorded(name: str, value: Tensor) -> float:
    """A metric's value as records and commands give it: errors with 4 decimals, losses with 6."""
    return round(float(value), 4 if name.endswith("error") else 6)


def likeliest(logits: Tensor, count: int) -> Tensor:
    """The classes with the highest logits, the highest first: (N, classes) -> (N, count) int64.

    Of equal logits, which are frequent in bfloat16, the class with the lower number comes first, on
    every device. torch.topk promises no order of equal values, and argmax and topk disagree.
    """
    if count == 1:
        return logits.argmax(1, keepdim=True)
    return logits.argsort(dim=1, descending=True, stable=True)[:, :count]


def of_classification(num_classes: int) -> MetricCollection:
    """Mean loss and errors, under the names that they are logged by; top-5 of over five classes."""
    metrics: dict[str, Metric | MetricCollection] = {"loss": MeanLoss(), "error": ErrorRate()}
    if num_classes > 5:
        metrics["top5_error"] = ErrorRate(top_k=5)
    return MetricCollection(metrics, compute_groups=False)


def update(metrics: MetricCollection, logits: Tensor, labels: Tensor, loss: Tensor) -> None:
    """Count a batch: its logits (N, classes), its labels (N,) and its mean loss."""
    for name, metric in metrics.items():
        if name == "loss":
            metric.update(loss, images=len(labels))
        else:
            metric.update(logits, labels)
