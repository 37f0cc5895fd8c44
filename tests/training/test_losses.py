"""The losses, compared with torch's own where it has them, else with the sums that define them."""

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, one_hot

from densenet_cli.options import OptionError
from densenet_cli.training import losses
from densenet_cli.training.losses import Loss

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0], [1.0, 1.0, 1.0], [-1.0, 0.0, 4.0]])
LABELS = torch.tensor([0, 1, 2, 0])
SEVERAL = torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]])
MIXED = torch.tensor([[0.7, 0.3, 0], [0, 1, 0], [0.5, 0, 0.5], [1, 0, 0]])
HUNDRED = torch.tensor([100, 100, 100])
WEIGHTS = torch.tensor([0.5, 2.0, 3.0])


def test_without_options_it_is_torchs_cross_entropy_to_the_last_bit():
    assert torch.equal(Loss()(LOGITS, LABELS), cross_entropy(LOGITS, LABELS))
    smoothed = cross_entropy(LOGITS, LABELS, label_smoothing=0.1)
    assert torch.equal(Loss(label_smoothing=0.1)(LOGITS, LABELS), smoothed)
    assert torch.equal(
        Loss(label_smoothing=0.1)(LOGITS, MIXED), cross_entropy(LOGITS, MIXED, label_smoothing=0.1)
    )
    several = Loss(several_labels=True)
    assert several.kind == "binary_cross_entropy"
    assert torch.equal(several(LOGITS, SEVERAL), binary_cross_entropy_with_logits(LOGITS, SEVERAL))


def test_class_weights_multiply_each_images_loss():
    loss = Loss(class_weights=WEIGHTS)
    each = cross_entropy(LOGITS, LABELS, reduction="none")
    torch.testing.assert_close(loss(LOGITS, LABELS), (each * WEIGHTS[LABELS]).mean())
    torch.testing.assert_close(loss(LOGITS, one_hot(LABELS, 3).float()), loss(LOGITS, LABELS))
    assert torch.equal(loss.of_evaluation(LOGITS, LABELS), cross_entropy(LOGITS, LABELS))
    parts = [loss(LOGITS[rows], LABELS[rows]) for rows in (slice(0, 2), slice(2, 4))]  # two processes
    torch.testing.assert_close(sum(parts) / 2, loss(LOGITS, LABELS))
    smoothed = Loss(label_smoothing=0.3, class_weights=WEIGHTS)(LOGITS, LABELS)
    shares = 0.7 * one_hot(LABELS, 3) + 0.1
    torch.testing.assert_close(smoothed, -(shares * WEIGHTS * LOGITS.log_softmax(1)).sum(1).mean())


def test_weights_of_several_labels_are_those_of_present_labels():
    found = Loss(several_labels=True, class_weights=WEIGHTS)(LOGITS, SEVERAL)
    present, absent = LOGITS.sigmoid().log(), (1 - LOGITS.sigmoid()).log()
    torch.testing.assert_close(found, -(WEIGHTS * SEVERAL * present + (1 - SEVERAL) * absent).mean())


@pytest.mark.parametrize("smoothing", [0, 0.2])
def test_a_label_that_is_not_known_has_no_loss_and_no_gradient(smoothing):
    labels, logits = SEVERAL.clone(), LOGITS.clone().requires_grad_()
    labels[0, 1], labels[2] = torch.nan, torch.nan
    Loss(several_labels=True, label_smoothing=smoothing)(logits, labels).backward()
    whole = Loss(several_labels=True, label_smoothing=smoothing)
    each = [
        float(whole(LOGITS[row, one].view(1, 1), labels[row, one].view(1, 1)))
        for row, one in (~labels.isnan()).nonzero()
    ]
    assert float(whole(LOGITS, labels)) == pytest.approx(sum(each) / labels.numel())
    assert torch.equal(logits.grad == 0, labels.isnan())


def test_binary_cross_entropy_takes_images_with_one_label():
    loss, shares = Loss("binary_cross_entropy"), one_hot(LABELS, 3).float()
    torch.testing.assert_close(loss(LOGITS, LABELS), binary_cross_entropy_with_logits(LOGITS, shares))
    torch.testing.assert_close(loss(LOGITS, MIXED), binary_cross_entropy_with_logits(LOGITS, MIXED))
    weighted = Loss("binary_cross_entropy", class_weights=WEIGHTS)(LOGITS, LABELS)
    each = binary_cross_entropy_with_logits(LOGITS, shares, reduction="none").mean(1)
    torch.testing.assert_close(weighted, (each * WEIGHTS[LABELS]).mean())
    # as timm's BinaryCrossEntropy: the share is spread over all classes
    smoothed = binary_cross_entropy_with_logits(LOGITS, 0.7 * shares + 0.1)
    torch.testing.assert_close(
        Loss("binary_cross_entropy", label_smoothing=0.3)(LOGITS, LABELS), smoothed
    )


def test_smoothing_moves_each_of_several_labels_towards_a_half():
    found = Loss(several_labels=True, label_smoothing=0.2)(LOGITS, SEVERAL)
    expected = binary_cross_entropy_with_logits(LOGITS, 0.8 * SEVERAL + 0.1)
    torch.testing.assert_close(found, expected)


def test_probabilities_of_one_label_are_those_of_independent_labels_if_exactly_one_is_there():
    torch.testing.assert_close(losses.probabilities(LOGITS, several_labels=True), LOGITS.sigmoid())
    present, classes = LOGITS.double().sigmoid(), LOGITS.shape[1]
    absent = 1 - present
    only = [
        present[:, one] * absent[:, [other for other in range(classes) if other != one]].prod(1)
        for one in range(classes)
    ]
    expected = torch.stack(only, 1) / torch.stack(only, 1).sum(1, keepdim=True)
    found = losses.probabilities(LOGITS, several_labels=False)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)


def test_balanced_weights_are_those_of_scikit_learn():
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    found = losses.balanced_weights(torch.tensor([60, 30, 10]), HUNDRED, several_labels=False)
    torch.testing.assert_close(found.double(), torch.from_numpy(expected))
    absent = losses.balanced_weights(torch.tensor([60, 0, 40]), HUNDRED, several_labels=False)
    torch.testing.assert_close(absent, torch.tensor([100 / 120, 1, 100 / 80]))


def test_balanced_weights_let_presence_and_absence_weigh_the_same():
    known = torch.tensor([100, 100, 100, 100, 50])
    found = losses.balanced_weights(torch.tensor([25, 50, 0, 100, 10]), known, several_labels=True)
    assert found.tolist() == [3, 1, 1, 1, 4]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "cross_entropy", "several_labels": True}, "loss=binary_cross_entropy"),
        ({"kind": "focal"}, "must be one of cross_entropy, binary_cross_entropy"),
        ({"label_smoothing": 1}, "below 1"),
    ],
)
def test_what_cannot_fit_is_refused(options, words):
    with pytest.raises(OptionError, match=words):
        Loss(**options)
