import pytest
import torch
from torch import nn

from densenet_cli.training.classifier import ImageClassifier


def _classifier(classes, **options):
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, classes))
    return ImageClassifier(network, torch.optim.SGD, None, classes, **options)


def test_errors_are_percentages_of_images_in_batches_of_unequal_size():
    classifier = _classifier(10)
    logged = {}
    classifier.log = lambda name, value: logged.update({name: float(value)})
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(11, 3, 2, 2, generator=generator)
    labels = torch.randint(10, (11,), generator=generator)
    for part in (slice(0, 8), slice(8, 11)):
        classifier.test_step((images[part], labels[part]), 0)
    classifier.on_test_epoch_end()
    logits = classifier(images).detach()
    top5 = logits.topk(5).indices
    assert logged["test/error"] == pytest.approx(
        100 * float((logits.argmax(1) != labels).double().mean()), abs=1e-4
    )
    assert logged["test/top5_error"] == pytest.approx(
        100 * float((top5 != labels[:, None]).all(1).double().mean()), abs=1e-4
    )
    assert logged["test/loss"] == pytest.approx(
        float(nn.functional.cross_entropy(logits, labels)), abs=1e-5
    )


def test_there_is_no_top5_error_for_up_to_five_classes():
    assert "top5_error" in _classifier(6).test_metrics
    assert "top5_error" not in _classifier(5).test_metrics


def test_label_smoothing_changes_the_training_loss_only():
    images, labels = torch.randn(4, 3, 2, 2), torch.tensor([0, 1, 2, 3])
    classifier = _classifier(6, label_smoothing=0.2)
    logits = classifier(images)
    smoothed = nn.functional.cross_entropy(logits, labels, label_smoothing=0.2)
    assert torch.equal(classifier.training_step((images, labels), 0), smoothed)
    classifier.test_step((images, labels), 0)
    plain = nn.functional.cross_entropy(logits, labels)
    torch.testing.assert_close(classifier.test_metrics.compute()["loss"], plain.detach())
