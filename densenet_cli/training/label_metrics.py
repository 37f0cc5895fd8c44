"""Metrics of images that can have several labels: AUROC and F1 of each label, averaged over labels.

AUROC is the share of pairs, of an image with the label and one without it, in which the former has the
higher logit; equal ones count half. Where no image or every image has a label there are no such pairs:
the label is left out of the means. Labels that are NaN are not known, and do not count.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import multilabel_auroc
from torchmetrics.utilities import dim_zero_cat

BINS = 1024  # of the logits between -LARGEST and LARGEST, each 1/32 wide
LARGEST = 16
UNKNOWN = -1  # a label that is not known, as an integer


class LabelMetric(Metric):
    """A metric that is a mean over the labels for which it is defined.

    Attributes:
        left_out: the labels that the last mean leaves out.
    """

    left_out: list[int]

    def mean(self, values: Tensor, with_label: Tensor, without: Tensor) -> Tensor:
        """The mean of values (labels,), given how many images have each label; NaN if none is left."""
        is_left_out = (with_label == 0) | (without == 0)
        self.left_out = is_left_out.nonzero().flatten().tolist()
        return values[~is_left_out].mean()


class RankingError(LabelMetric):
    """100 % minus the mean AUROC in percent: the share of pairs that are ranked wrongly.

    It keeps all logits until the epoch ends.
    """

    logits: list[Tensor]
    labels: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("logits", [], dist_reduce_fx="cat")
        self.add_state("labels", [], dist_reduce_fx="cat")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: logits (N, labels), labels (N, labels) of 0, 1 and NaN."""
        self.logits.append(logits.clone())  # they are valid until the next pass only
        self.labels.append(whole(labels))

    def compute(self) -> Tensor:
        """The percentage."""
        labels = dim_zero_cat(self.labels)
        found = auroc(dim_zero_cat(self.logits), labels)
        return 100 * (1 - self.mean(found, (labels == 1).sum(0), (labels == 0).sum(0)))


class BinnedRankingError(LabelMetric):
    """`RankingError` of logits that are rounded to 1/32: its sums have the same size at all times.

    They are updated in place and read by no host, so that a recorded step can update them.
    torchmetrics' metric with `thresholds` selects by conditions, whose number of hits the host reads.
    """

    counts: Tensor

    def __init__(self, labels: int) -> None:
        super().__init__()
        empty = torch.zeros(2, labels, BINS, dtype=torch.long)  # images without the label, and with it
        self.add_state("counts", empty, dist_reduce_fx="sum")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: logits and labels (N, labels), 0 to 1 or NaN; from 0.5 on they are present."""
        width = 2 * LARGEST / BINS
        bins = (logits / width).floor().nan_to_num().clamp(-BINS // 2, BINS // 2 - 1).long() + BINS // 2
        row = torch.arange(labels.shape[1], device=labels.device)
        index = ((labels >= 0.5).long() * labels.shape[1] + row) * BINS + bins
        self.counts.view(-1).scatter_add_(0, index.flatten(), (~labels.isnan()).long().flatten())

    def compute(self) -> Tensor:
        """The percentage."""
        absent, present = self.counts.double()
        below = absent.cumsum(1) - absent / 2
        with_label, without = present.sum(1), absent.sum(1)
        found = (present * below).sum(1) / (with_label * without)
        return 100 * (1 - self.mean(found, with_label, without)).float()


class MacroF1(LabelMetric):
    """The mean F1 of the labels, 0 to 1: an image is said to have those of a probability above 0.5.

    As torchmetrics' MultilabelF1Score, whose sums are not updated in place.
    """

    hits: Tensor
    predicted: Tensor
    present: Tensor
    known: Tensor

    def __init__(self, labels: int) -> None:
        super().__init__()
        for name in ("hits", "predicted", "present", "known"):
            self.add_state(name, torch.zeros(labels, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add a batch, as `BinnedRankingError`."""
        known = ~labels.isnan()
        predicted, present = (logits > 0) & known, labels >= 0.5
        self.hits += (predicted & present).sum(0)
        self.predicted += predicted.sum(0)
        self.present += present.sum(0)
        self.known += known.sum(0)

    def compute(self) -> Tensor:
        """The mean."""
        return self.mean(self.of_each(), self.present, self.known - self.present)

    def of_each(self) -> Tensor:
        """The F1 of each label, (labels,); NaN if no image has it, nor is said to have it."""
        return 2 * self.hits / (self.predicted + self.present)


def whole(labels: Tensor) -> Tensor:
    """Labels of 0, 1 and NaN as int8: 0, 1 and UNKNOWN."""
    return labels.nan_to_num(UNKNOWN).to(torch.int8)


def auroc(logits: Tensor, labels: Tensor) -> Tensor:
    """The AUROC of each label, 0 to 1: logits and labels (1, 0, UNKNOWN), (N, labels) -> (labels,).

    NaN where no image or every image has the label, and of a label with NaN among its logits.
    """
    found = torch.full((labels.shape[1],), torch.nan, device=logits.device)
    has_both = (labels == 1).any(0) & (labels == 0).any(0) & ~logits.isnan().any(0)
    chosen = has_both.nonzero().flatten()
    if len(chosen):
        # In float32 the probabilities of all logits above 17 are 1, and would count as equal.
        scores, truth = logits[:, chosen].double().sigmoid(), labels[:, chosen].long()
        options: dict[str, Any] = {"average": "none", "thresholds": None, "validate_args": False}
        of_each = multilabel_auroc(scores, truth, len(chosen), ignore_index=UNKNOWN, **options)
        found[chosen] = of_each.float()
    return found
