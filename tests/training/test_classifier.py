import random
from itertools import product

import pytest
import torch
from torch import nn

from densenet_cli.models.resnet import ResNet
from densenet_cli.training import host_choices
from densenet_cli.training.classifier import ImageClassifier
from densenet_cli.training.losses import Loss


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


def test_what_a_network_chooses_depends_on_seed_epoch_and_batch_not_on_the_process(monkeypatch):
    def choices(seed=0, epoch=0, batch=0, rank=0):
        monkeypatch.setattr(ImageClassifier, "global_rank", rank)
        monkeypatch.setattr(ImageClassifier, "current_epoch", epoch)
        network = ResNet(10, 20, survival_probability=0.5)
        classifier = ImageClassifier(network, torch.optim.SGD, None, 10, seed=seed)
        classifier.on_train_batch_start(None, batch)
        left_out = [block.is_left_out() for stage in network.stages for block in stage]
        return left_out, torch.rand(2).tolist()

    chosen, drawn = choices()
    assert choices() == (chosen, drawn)
    same, other = choices(rank=1)
    assert same == chosen
    assert other != drawn  # as dropout masks
    found = [choices(seed, epoch, batch)[0] for seed, epoch, batch in product(range(3), repeat=3)]
    assert sum(map(sum, found)) / 27 == pytest.approx(2.5, abs=0.75)  # of 9 blocks; three deviations
    assert len(set(map(tuple, found))) > 15


def test_generators_of_a_network_are_seeded_in_different_ways():
    network = nn.Sequential(nn.ReLU(), nn.ReLU())
    network[0].draws, network[1].draws, network.same = (own := random.Random()), random.Random(), own
    assert host_choices.generators(network) == [own, network[1].draws]
    host_choices.seed(host_choices.generators(network), [1, 2, 3])
    assert network[0].draws.random() != network[1].draws.random()


def test_there_is_no_top5_error_for_up_to_five_classes():
    assert "top5_error" in _classifier(6).test_metrics
    assert "top5_error" not in _classifier(5).test_metrics


def test_label_smoothing_changes_the_training_loss_only():
    images, labels = torch.randn(4, 3, 2, 2), torch.tensor([0, 1, 2, 3])
    classifier = _classifier(6, criterion=Loss(label_smoothing=0.2))
    logits = classifier(images)
    smoothed = nn.functional.cross_entropy(logits, labels, label_smoothing=0.2)
    assert torch.equal(classifier.training_step((images, labels), 0), smoothed)
    classifier.test_step((images, labels), 0)
    plain = nn.functional.cross_entropy(logits, labels)
    torch.testing.assert_close(classifier.test_metrics.compute()["loss"], plain.detach())
