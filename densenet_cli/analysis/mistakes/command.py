"""`densenet-model mistakes`: calibration, confusion of classes, and the most confident mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from densenet_cli.analysis.forward import Batches, logits_and_labels
from densenet_cli.analysis.mistakes import calibration
from densenet_cli.analysis.mistakes.figure import draw_confusion, draw_mistakes, draw_reliability
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
    analysis.write("calibration", draw_reliability(bins))
    analysis.write(
        "confusion",
        *(draw_confusion(own.confusion, own.class_names, one.title) for one, own in found.items()),
    )
    analysis.write(
        "mistakes",
        *(
            draw_mistakes(own.mistakes, own.pixels, own.class_names, one.title)
            for one, own in found.items()
            if own.mistakes
        ),
    )
    for network, own in found.items():
        print(f"{network.title}: {_in_words(own)}")


def _predict(trained: TrainedNetwork, batches: Batches) -> Predictions:
    with trained.arithmetic():
        logits, labels = logits_and_labels(trained.network, batches)
    confident = calibration.most_confident_mistakes(logits, labels, SHOWN)
    inputs = [image for images, _ in batches for image in images]
    pixels = [trained.pixels(inputs[mistake.image]) for mistake in confident]
    return Predictions(logits, labels, trained.class_names, confident, pixels)


def _in_words(predictions: Predictions) -> str:
    confusion = predictions.confusion
    error = 100 * (1 - confusion.diagonal().sum() / confusion.sum()).item()
    distance = 100 * calibration.expected_calibration_error(predictions.logits, predictions.labels)
    errors = calibration.class_errors(confusion).nan_to_num(0)
    worst = [
        f"{printable(predictions.class_names[label])} ({errors[label]:.1f} %)"
        for label in errors.topk(min(WORST, len(errors))).indices
    ]
    overall = f"error {error:.2f} %, calibration error {distance:.2f} %"
    return f"{overall}; highest class errors: {', '.join(worst)}"
