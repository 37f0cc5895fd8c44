"""Confusion and calibration of a few images, by hand and by definition."""

import math

import numpy as np
import pytest
import torch

from densenet_cli.analysis.mistakes.calibration import (
    class_errors,
    confusion_matrix,
    expected_calibration_error,
    most_confident_mistakes,
    reliability,
)
from densenet_cli.analysis.mistakes.figure import draw_confusion, draw_mistakes, draw_reliability
from densenet_cli.analysis.network_label import NetworkLabel


def logits_of(*rows):
    return torch.tensor(rows, dtype=torch.float64).log()


FOUR = logits_of([0.9, 0.05, 0.05], [0.2, 0.7, 0.1], [0.85, 0.05, 0.1], [0.25, 0.1, 0.65])
TRUTH = torch.tensor([0, 1, 2, 2])  # right, right, wrong, right


def random_answers(images=500, classes=7):
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(images, classes, generator=generator)
    return logits, torch.randint(classes, (images,), generator=generator)


def test_confusion_has_a_row_for_each_class():
    assert confusion_matrix(FOUR, TRUTH).tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 1]]
    assert class_errors(confusion_matrix(FOUR, TRUTH)).tolist() == [0, 0, 50]


def test_a_class_without_images_has_no_error():
    errors = class_errors(confusion_matrix(FOUR[:2], TRUTH[:2]))
    assert errors[:2].tolist() == [0, 0]
    assert math.isnan(errors[2])


def test_calibration_error_by_hand():
    # Bins of a fifth: 0.65 and 0.7 together (both right), 0.9 and 0.85 together (one right).
    expected = 2 / 4 * (1 - 0.675) + 2 / 4 * (0.875 - 0.5)
    assert expected_calibration_error(FOUR, TRUTH, bins=5) == pytest.approx(expected)
    filled = [part for part in reliability(FOUR, TRUTH, bins=5) if part.images]
    assert [(part.images, part.accuracy) for part in filled] == [(2, 1), (2, 0.5)]
    assert [part.confidence for part in filled] == pytest.approx([0.675, 0.875])


def test_calibration_error_is_the_weighted_distance_of_the_diagram_from_the_diagonal():
    logits, labels = random_answers()
    bins = reliability(logits, labels)
    assert len(bins) == 15
    assert sum(part.images for part in bins) == 500
    distance = sum(
        part.images / 500 * abs(part.confidence - part.accuracy) for part in bins if part.images
    )
    assert expected_calibration_error(logits, labels) == pytest.approx(distance)


def test_full_confidence_is_in_the_last_bin():
    logits = torch.tensor([[1000.0, 0], [1000, 0], [math.log(0.97), math.log(0.03)]])
    labels = torch.tensor([0, 1, 0])
    last = reliability(logits, labels)[-1]
    assert (last.images, last.accuracy) == (3, pytest.approx(2 / 3))
    expected = abs((2 + 0.97) / 3 - 2 / 3)
    assert expected_calibration_error(logits, labels) == pytest.approx(expected, rel=1e-6)


def test_mistakes_are_ordered_by_confidence():
    logits, labels = random_answers()
    probabilities = np.exp(logits.double().numpy())
    probabilities /= probabilities.sum(1, keepdims=True)
    wrong = [i for i in range(500) if probabilities[i].argmax() != labels[i]]
    wrong.sort(key=lambda i: -probabilities[i].max())
    found = most_confident_mistakes(logits, labels, 4)
    assert [mistake.image for mistake in found] == wrong[:4]
    assert [mistake.confidence for mistake in found] == pytest.approx(probabilities[wrong[:4]].max(1))
    assert [mistake.label for mistake in found] == labels[wrong[:4]].tolist()
    assert [mistake.predicted for mistake in found] == probabilities[wrong[:4]].argmax(1).tolist()
    assert len(most_confident_mistakes(FOUR, TRUTH, 9)) == 1


def test_figures_show_what_was_counted():
    logits, labels = random_answers()
    bins = reliability(logits, labels)
    drawing = draw_reliability({NetworkLabel("ours", "ResNet"): bins})
    shares, points = drawing.figure.axes
    filled = [part for part in bins if part.images]
    assert list(points.get_lines()[0].get_ydata()) == [part.accuracy for part in filled]
    assert sum(shares.patches[0].get_data().values) == pytest.approx(100)
    assert sum(row["images"] for row in drawing.points) == 500
    confusion = draw_confusion(confusion_matrix(FOUR, TRUTH), ["a", "b", "c"])
    texts = {text.get_position(): text.get_text() for text in confusion.figure.axes[0].texts}
    assert texts == {(0.5, 0.5): "100.0", (1.5, 1.5): "100.0", (0.5, 2.5): "50.0", (2.5, 2.5): "50.0"}
    assert {"class": "c", "predicted": "a", "images": 1} in confusion.points


def test_mistakes_are_shown_with_predicted_and_true_class():
    surest = most_confident_mistakes(FOUR, TRUTH, 9)
    image = torch.rand(4, 5, 3)
    drawing = draw_mistakes(surest, [image], ["a", "b", "sea otter, Enhydra"])
    first, *others = drawing.figure.axes
    assert first.get_title(loc="center") == "a (85 %)\nis sea otter, En…"
    assert np.array_equal(first.get_images()[0].get_array(), image)
    assert not any(axes.get_images() for axes in others)
    expected = {"image": 2, "class": "sea otter, Enhydra", "predicted": "a"}
    assert drawing.points == [{**expected, "confidence": pytest.approx(0.85)}]
