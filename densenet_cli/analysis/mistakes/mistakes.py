"""The mistakes of trained runs: calibration, confusion, and the images most surely mistaken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from densenet_cli.analysis.forward import Batches, answers
from densenet_cli.analysis.mistakes import calibration
from densenet_cli.analysis.mistakes.calibration_figure import draw_confusion, draw_reliability
from densenet_cli.analysis.mistakes.mistakes_figure import draw_mistakes
from densenet_cli.analysis.runs import Look
from densenet_cli.inference.trained import Trained
from densenet_cli.plain_text import printable

SHOWN = 24
WORST = 3


@dataclass(frozen=True)
class Judged:
    """What a network said of test images.

    Attributes:
        logits: (N, C).
        labels: (N,).
        class_names: label 0 first.
        surest: the mistakes it was surest of.
        pixels: the pictures of those, (H, W, 3), 0..1.
    """

    logits: Tensor
    labels: Tensor
    class_names: Sequence[str]
    surest: Sequence[calibration.Mistake]
    pixels: Sequence[Tensor]

    @property
    def confusion(self) -> Tensor:
        """Images of each class (row) taken for each class (column), (C, C)."""
        return calibration.confusion_matrix(self.logits, self.labels)


def judge(trained: Trained, batches: Batches) -> Judged:
    """Ask a network about test images."""
    with trained.arithmetic():
        logits, labels = answers(trained.network, batches)
    surest = calibration.most_confident_mistakes(logits, labels, SHOWN)
    inputs = [image for images, _ in batches for image in images]
    pixels = [trained.pixels(inputs[mistake.image]) for mistake in surest]
    return Judged(logits, labels, trained.class_names, surest, pixels)


def mistakes(look: Look) -> None:
    """Figures of calibration, confusion and the surest mistakes; in the terminal a line a network."""
    found = look.each(judge)
    bins = {one: calibration.reliability(own.logits, own.labels) for one, own in found.items()}
    look.write("calibration", draw_reliability(bins))
    look.write(
        "confusion",
        *(draw_confusion(own.confusion, own.class_names, one.title) for one, own in found.items()),
    )
    look.write(
        "mistakes",
        *(
            draw_mistakes(own.surest, own.pixels, own.class_names, one.title)
            for one, own in found.items()
            if own.surest
        ),
    )
    for subject, own in found.items():
        print(f"{subject.title}: {_in_words(own)}")


def _in_words(judged: Judged) -> str:
    confusion = judged.confusion
    error = 100 * (1 - confusion.diagonal().sum() / confusion.sum()).item()
    distance = 100 * calibration.expected_calibration_error(judged.logits, judged.labels)
    errors = calibration.class_errors(confusion).nan_to_num(0)
    worst = [
        f"{printable(judged.class_names[label])} {errors[label]:.1f} %"
        for label in errors.topk(min(WORST, len(errors))).indices
    ]
    return f"error {error:.2f} %, calibration error {distance:.2f} %; most in {', '.join(worst)}"
