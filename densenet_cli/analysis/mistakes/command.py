"""`densenet-model mistakes`: calibration, confusion of classes, and the most confident mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from densenet_cli.analysis.forward import Batches, logits_and_labels
from densenet_cli.analysis.mistakes import calibration
from densenet_cli.analysis.mistakes.figure import draw_confusion, draw_mistakes, draw_reliability
from densenet_cli.analysis.network_label import NetworkLabel
from densenet_cli.analysis.runs import Analysis
from densenet_cli.inference.trained_network import TrainedNetwork
from densenet_cli.plain_text import printable

SHOWN = 24  # mistakes on the figure
WORST = 3  # classes named in the terminal


@dataclass(frozen=True)
class Predictions:
    """A network's predictions for test images.

    Attributes:
        logits: (N, C).
        labels: (N,).
        class_names: label 0 first.
        mistakes: the most confident ones.
        pixels: the images of these mistakes, (H, W, 3), 0..1.
    """

    logits: Tensor
    labels: Tensor
    class_names: Sequence[str]
    mistakes: Sequence[calibration.Mistake]
    pixels: Sequence[Tensor]

    @property
    def confusion(self) -> Tensor:
        """Images of each class (row) predicted as each class (column), (C, C)."""
        return calibration.confusion_matrix(self.logits, self.labels)


def mistakes(analysis: Analysis) -> None:
    """Draw calibration, confusion and mistakes of all runs; print a line for each network.

    Raises:
        UserError: a run cannot be used.
    """
    found = analysis.each(_predict)
    bins = {one: calibration.reliability(own.logits, own.labels) for one, own in found.items()}
    analysis.output.write("calibration", draw_reliability(bins))
    analysis.output.write(
        "confusion",
        *(draw_confusion(own.confusion, own.class_names, one.title) for one, own in found.items()),
    )
    analysis.output.write(
        "mistakes",
        *(
            draw_mistakes(own.mistakes, own.pixels, own.class_names, one.title)
            for one, own in found.items()
            if own.mistakes
        ),
    )
    documents = {network: _document(network, own) for network, own in found.items()}
    lines = (f"{network.title}: {_in_words(one)}" for network, one in documents.items())
    analysis.output.finish(list(documents.values()), *lines)


def _predict(trained: TrainedNetwork, batches: Batches) -> Predictions:
    with trained.arithmetic():
        logits, labels = logits_and_labels(trained.network, batches)
    confident = calibration.most_confident_mistakes(logits, labels, SHOWN)
    inputs = [image for images, _ in batches for image in images]
    pixels = [trained.pixels(inputs[mistake.image]) for mistake in confident]
    return Predictions(logits, labels, trained.class_names, confident, pixels)


def _document(network: NetworkLabel, predictions: Predictions) -> dict[str, Any]:
    """The errors for JSON; the classes by error, the highest first."""
    confusion = predictions.confusion
    images = confusion.sum(1).tolist()
    classes = zip(
        predictions.class_names, calibration.class_errors(confusion).tolist(), images, strict=True
    )
    known = [
        {"class": name, "error_percent": error, "images": count}
        for name, error, count in classes
        if count
    ]
    distance = calibration.expected_calibration_error(predictions.logits, predictions.labels)
    return {
        "network": network.title,
        "images": sum(images),
        "error_percent": 100 * (1 - confusion.diagonal().sum() / confusion.sum()).item(),
        "calibration_error_percent": 100 * distance,
        "classes": sorted(known, key=lambda one: -one["error_percent"]),
    }


def _in_words(document: dict[str, Any]) -> str:
    worst = [
        f"{printable(one['class'])} ({one['error_percent']:.1f} %)"
        for one in document["classes"][:WORST]
    ]
    overall = (
        f"error {document['error_percent']:.2f} %, "
        f"calibration error {document['calibration_error_percent']:.2f} %"
    )
    return f"{overall}; highest class errors: {', '.join(worst)}"
