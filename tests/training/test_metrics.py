"""Errors, compared with torchmetrics'."""

import pytest
import torch
from torchmetrics.classification import MulticlassAccuracy

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
