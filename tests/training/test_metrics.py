"""Errors, compared with torchmetrics'."""

import warnings

import pytest
import torch
from torchmetrics.classification import MulticlassAccuracy, MulticlassRecall

from densenet_cli.training import metrics


@pytest.mark.parametrize("top_k", [1, 5])
def test_the_error_is_one_minus_the_accuracy_of_torchmetrics(top_k):
    generator = torch.Generator().manual_seed(0)
    ours = metrics.ErrorRate(top_k)
    theirs = MulticlassAccuracy(10, top_k=top_k, average="micro")
    for images in (64, 7):
        # rounded, so that many logits are equal
        logits = torch.randn(images, 10, generator=generator).bfloat16().float()
        labels = torch.randint(10, (images,), generator=generator)
        ours.update(logits, labels)
        theirs.update(logits, labels)
    assert float(ours.compute()) == pytest.approx(100 * (1 - float(theirs.compute())), abs=1e-4)
    assert int(ours.wrong) == int(theirs.fn.sum())


def test_among_equal_logits_the_lower_class_comes_first():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randint(4, (500, 10), generator=generator).float()
    for count in (1, 5, 10):
        found = metrics.likeliest(logits, count).tolist()
        for own, classes in zip(logits.tolist(), found, strict=True):
            assert classes == sorted(range(10), key=lambda label: (-own[label], label))[:count]


@pytest.mark.parametrize("top_k", [1, 5])
def test_an_image_with_a_nan_logit_is_wrong(top_k):
    logits = torch.eye(10)
    logits[0] = torch.nan  # label 0 would rank first
    logits[1, 1] = torch.nan
    logits[2, 2] = torch.inf
    error = metrics.ErrorRate(top_k)
    error.update(logits, torch.arange(10))
    assert float(error.compute()) == pytest.approx(20)


def test_sums_stay_where_a_recorded_step_updates_them():
    """A metric that is reset has new tensors; its sums are put back where they were."""
    collection = metrics.of_training(10)
    states = metrics.States(collection)
    addresses = [getattr(metric, name).data_ptr() for metric, name, _ in states._states]
    logits, labels = torch.eye(10)[:7], torch.tensor([0, 1, 2, 3, 4, 5, 9])
    metrics.update(collection, logits, labels, torch.tensor(2.0))
    collection.reset()
    metrics.update(collection, logits, labels, torch.tensor(3.0))
    states.take_over()
    assert float(collection.compute()["loss"]) == 3.0
    collection.reset()
    states.take_over()
    for metric, name, state in states._states:
        assert getattr(metric, name) is state
        state += {"total": 8.0, "wrong": 1, "images": 4}[name]  # as a replay does
    assert [getattr(metric, name).data_ptr() for metric, name, _ in states._states] == addresses
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torchmetrics warns of sums that were never updated
        found = collection.compute()
    assert {name: float(value) for name, value in found.items()} == {
        "loss": 2.0,
        "error": 25.0,
        "top5_error": 25.0,
    }


def test_the_balanced_error_is_one_minus_the_macro_recall_of_torchmetrics():
    generator = torch.Generator().manual_seed(0)
    ours, theirs = metrics.BalancedError(4), MulticlassRecall(3, average="macro")
    for images in (64, 7):
        logits = torch.randn(images, 3, generator=generator)
        labels = torch.multinomial(torch.tensor([0.8, 0.15, 0.05]), images, True, generator=generator)
        ours.update(
            torch.nn.functional.pad(logits, (0, 1), value=-9.0), labels
        )  # a class without images
        theirs.update(logits, labels)
    assert float(ours.compute()) == pytest.approx(100 * (1 - float(theirs.compute())), abs=1e-4)


def test_classes_of_like_size_have_no_balanced_error():
    collection = metrics.of_evaluation(2)
    for images, has_one in (((11, 10), False), ((12, 10), True)):
        collection.reset()
        labels = torch.arange(2).repeat_interleave(torch.tensor(images))
        metrics.update(collection, torch.randn(sum(images), 2), labels, torch.tensor(1.0))
        assert ("balanced_error" in metrics.compute(collection)) == has_one
