"""Calibration, confusion and mistakes of a network: from logits (N, C) and labels (N,)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    multiclass_calibration_error,
    multiclass_confusion_matrix,
)

BINS = 15  # as in Guo et al. 2017, arXiv:1706.04599
BELOW_ONE = 1 - 2**-24  # the float32 next to 1


@dataclass(frozen=True)
class Bin:
    """The images whose confidence is in [low, high): one point of a reliability diagram.

    Attributes:
        low, high: bounds of the confidence, 0..1.
        images: their number.
        confidence: their mean confidence; None without images.
        accuracy: the share of them that is classified correctly; None without images.
    """

    low: float
    high: float
    images: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Mistake:
    """An image that is classified wrongly; `image` is its index, `confidence` is 0..1."""

    image: int
    label: int
    predicted: int
    confidence: float


def confusion_matrix(logits: Tensor, labels: Tensor) -> Tensor:
    """Number of images of each class (row) predicted as each class (column), (C, C) int64."""
    return multiclass_confusion_matrix(logits.argmax(1), labels, num_classes=logits.shape[1])


def class_errors(confusion: Tensor) -> Tensor:
    """Percentage of each class's images that is classified wrongly, (C,); NaN if it has no images."""
    return 100 * (1 - confusion.diagonal() / confusion.sum(1))


def expected_calibration_error(logits: Tensor, labels: Tensor, bins: int = BINS) -> float:
    """Mean of |accuracy - confidence| over equal bins of confidence, weighted by images, 0..1.

    The confidence is the softmax probability of the class predicted (Guo et al. 2017, eq. 3), also of
    networks trained by binary_cross_entropy: see `training.losses.probabilities`.
    """
    probabilities = _probabilities(logits)
    return float(multiclass_calibration_error(probabilities, labels, logits.shape[1], bins))


def reliability(logits: Tensor, labels: Tensor, bins: int = BINS) -> list[Bin]:
    """Confidence and accuracy in each of the equal bins of confidence, from 0 to 1."""
    confidences, predicted = _predicted(logits)
    bounds = torch.linspace(0, 1, bins + 1, dtype=confidences.dtype)
    places = torch.bucketize(confidences, bounds, right=True) - 1
    right = (predicted == labels).double()
    return [
        _bin(low, high, confidences[places == place], right[places == place])
        for place, (low, high) in enumerate(zip(bounds.tolist(), bounds.tolist()[1:], strict=False))
    ]


def most_confident_mistakes(logits: Tensor, labels: Tensor, number: int) -> list[Mistake]:
    """The wrongly classified images of highest confidence, at most `number`."""
    confidences, predicted = _predicted(logits)
    wrong = (predicted != labels).nonzero().flatten()
    order = wrong[confidences[wrong].argsort(descending=True, stable=True)][:number].tolist()
    return [
        Mistake(image, int(labels[image]), int(predicted[image]), float(confidences[image]))
        for image in order
    ]


def _predicted(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The probability of the predicted class, (N,), and this class, (N,).

    The class is that of the largest logit: probabilities may be equal where logits are not.
    """
    predicted = logits.argmax(1, keepdim=True)
    return _probabilities(logits).gather(1, predicted)[:, 0], predicted[:, 0]


def _probabilities(logits: Tensor) -> Tensor:
    """Softmax, kept below 1: torchmetrics puts exactly 1 in an extra bin after the last."""
    return logits.float().softmax(1).clamp(max=BELOW_ONE)


def _bin(low: float, high: float, confidences: Tensor, right: Tensor) -> Bin:
    if not len(right):
        return Bin(low, high, 0, None, None)
    return Bin(low, high, len(right), float(confidences.mean()), float(right.mean()))
