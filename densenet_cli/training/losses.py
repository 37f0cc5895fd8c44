"""The loss of a batch: logits and labels -> one number; and the probabilities that logits stand for."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densenet_cli.options import OptionError, choice, number

CROSS_ENTROPY, BINARY_CROSS_ENTROPY = KINDS = ("cross_entropy", "binary_cross_entropy")


class Loss(nn.Module):
    """The loss that training minimises, of images that have one label each, or several.

    Labels are (N,) int64, or (N, classes) float32. The latter are 0 or 1 if an image can have several
    labels, or NaN where it is not known, whose loss is 0; of images with one label they are the shares
    of their classes, such as those of mixed images.

    Args:
        kind: "cross_entropy", of softmax; or "binary_cross_entropy", of a sigmoid for each class, whose
            losses are averaged over the classes. None: what fits: the latter for several labels.
        several_labels: whether an image can have several labels.
        label_smoothing: 0 (off) to below 1: the share s of each label that is spread evenly over the
            classes; of several labels each one is moved towards 1/2: 1 becomes 1 - s/2, 0 becomes s/2.
        class_weights: (classes,); None: all are 1. Of images with one label: each class's share of the
            loss is multiplied by its weight. Of several labels: the loss of each label is multiplied by
            it where the label is present, as by `pos_weight` of BCEWithLogitsLoss. The mean is that
            over the images, not over their weights, so a batch split over processes has the same loss.

    Raises:
        OptionError: "loss" does not fit the labels; "label_smoothing" is out of range.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        kind: str | None = None,
        several_labels: bool = False,
        label_smoothing: float = 0.0,
        class_weights: Tensor | None = None,
    ) -> None:
        super().__init__()
        fitting = BINARY_CROSS_ENTROPY if several_labels else CROSS_ENTROPY
        self.kind = choice("loss", fitting if kind is None else kind, KINDS)
        if several_labels and self.kind == CROSS_ENTROPY:
            rule = "takes images with one label each; these have several"
            raise OptionError("loss", kind, rule, BINARY_CROSS_ENTROPY)
        self.several_labels = several_labels
        self.label_smoothing = number(
            "label_smoothing", label_smoothing, example=0.1, at_least=0, below=1
        )
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean loss to minimise, a scalar: logits (N, classes) float32, labels."""
        return self._mean(logits, labels, self.label_smoothing, self.class_weights)

    def of_evaluation(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The same without smoothing and weights: the loss on held-out and test images."""
        return self._mean(logits, labels, 0.0, None)

    def _mean(self, logits: Tensor, labels: Tensor, smoothing: float, weights: Tensor | None) -> Tensor:
        if self.kind == CROSS_ENTROPY and weights is None:
            return F.cross_entropy(logits, labels, label_smoothing=smoothing)
        if self.kind == CROSS_ENTROPY:
            total = F.cross_entropy(logits, labels, weights, label_smoothing=smoothing, reduction="sum")
            return total / len(logits)
        shares = shares_of_classes(labels, logits.shape[1])
        even = 0.5 if self.several_labels else 1 / logits.shape[1]
        smoothed = shares.lerp(shares.new_full((), even), smoothing) if smoothing else shares
        if self.several_labels:
            known = (~shares.isnan()).float()
            return F.binary_cross_entropy_with_logits(
                logits, smoothed.nan_to_num(), known, pos_weight=weights
            )
        if weights is None:
            return F.binary_cross_entropy_with_logits(logits, smoothed)
        each = F.binary_cross_entropy_with_logits(logits, smoothed, reduction="none").mean(1)
        return (each * (shares @ weights)).mean()


def balanced_weights(counts: Tensor, images: Tensor, several_labels: bool) -> Tensor:
    """Class weights under which all classes weigh the same in the loss, however rare they are.

    Of images with one label, the weight of a class is images / (classes x its images), as in
    scikit-learn's class_weight="balanced": their mean over the images is 1. Of several labels it is
    (images without the label) / (images with it): presence and absence weigh the same.

    Args:
        counts: the training images that have the label of each class, (classes,).
        images: the training images of which each label is known, (classes,).
        several_labels: whether an image can have several labels.

    Returns:
        (classes,) float32; 1 where there is nothing to balance: for a class that no training image has,
        which does not count among the classes, and for one of several labels that all of them have.
    """
    numbers = counts.double()
    if several_labels:
        weights = (images - numbers) / numbers
        weights[counts == images] = 1
    else:
        weights = images / (counts.count_nonzero() * numbers)
    weights[counts == 0] = 1
    return weights.float()


def shares_of_classes(labels: Tensor, classes: int) -> Tensor:
    """Labels (N,) int64 as (N, classes) float32, 1 for the class; such labels as they are."""
    if labels.ndim == 2:
        return labels
    zeros = torch.zeros(len(labels), classes, device=labels.device)
    return zeros.scatter_(1, labels[:, None], 1.0)


def probabilities(logits: Tensor, several_labels: bool) -> Tensor:
    """The probabilities of the classes, (N, classes): softmax; of several labels a sigmoid for each.

    Softmax also of images with one label whose network was trained by binary_cross_entropy. A sigmoid
    does not know that there is exactly one label. Given that, independent labels are present with
    probabilities in proportion to p / (1 - p) = exp(logit), and that is softmax.
    """
    return logits.sigmoid() if several_labels else logits.softmax(1)
