"""Mixup and CutMix, compared with torchvision's."""

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from densenet_cli.options import OptionError
from densenet_cli.training.classifier import ImageClassifier
from densenet_cli.training.losses import Loss
from densenet_cli.training.mixing import Mixing

CPU = torch.device("cpu")
CLASSES = 5


def batch(images=8, several=False, height=9, width=13):
    generator = torch.Generator().manual_seed(images)
    pixels = torch.randn(images, 3, height, width, generator=generator)
    labels = torch.arange(images) % CLASSES
    if several:
        labels = torch.rand(images, CLASSES, generator=generator).round()
    return pixels.contiguous(memory_format=torch.channels_last), labels


def of_torchvision(transform, images, labels, draw, monkeypatch):
    """What torchvision makes of a batch with the same random numbers; it mixes each image with the one
    before it, so two images of a pair are the batch.
    """
    outside, across, down, half = draw.double().tolist()
    height, width = images.shape[2:]
    is_cut = isinstance(transform, v2.CutMix)
    share = 1 - 4 * half**2 if is_cut else outside
    centres = iter([int(across * width), int(down * height)])  # torchvision draws x first
    monkeypatch.setattr(transform, "_dist", type("", (), {"sample": lambda self, shape: share})())
    monkeypatch.setattr(torch, "randint", lambda *args, **size: torch.tensor([next(centres)]))
    return transform(images, labels)


@pytest.mark.parametrize("transform", [v2.MixUp, v2.CutMix])
def test_a_pair_is_mixed_as_by_torchvision(transform, monkeypatch):
    pixels, labels = batch(2)
    is_cut = transform is v2.CutMix
    mixing = Mixing(CLASSES, *((0, 1.0) if is_cut else (0.3, 0)))
    shares = []
    for number in range(40):
        draw = mixing.draw([0, 0, number], CPU)
        mixed, targets, _ = mixing(pixels, labels, draw)
        with monkeypatch.context() as patch:
            made = transform(alpha=1.0, num_classes=CLASSES)
            expected, shown = of_torchvision(made, pixels, labels, draw, patch)
        torch.testing.assert_close(mixed, expected)
        torch.testing.assert_close(targets, shown)
        assert mixed.is_contiguous(memory_format=torch.channels_last)
        shares.append(float(targets.max()))
    assert len(set(shares)) > 10


def test_a_share_is_drawn_from_a_beta_distribution_for_each_batch_of_an_epoch():
    mixing = Mixing(CLASSES, 0.2, 0)
    drawn = torch.stack([mixing.draw([1, epoch, 3], CPU) for epoch in range(2000)])
    shares = drawn[:, 0].double().numpy()
    assert np.mean(shares) == pytest.approx(0.5, abs=0.04)
    assert np.var(shares) == pytest.approx(1 / (4 * (2 * 0.2 + 1)), rel=0.05)  # of Beta(a, a)
    assert not drawn[:, 1:].any()
    again = torch.stack([Mixing(CLASSES, 0.2, 0).draw([1, epoch, 3], CPU) for epoch in range(2000)])
    assert torch.equal(drawn, again)
    both = Mixing(CLASSES, 0.2, 1.0)
    cut = [float(both.draw([0, 0, number], CPU)[3] > 0) for number in range(400)]
    assert np.mean(cut) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("images", [1, 7, 8])
def test_labels_are_mixed_as_their_images(images, several):
    pixels, labels = batch(images, several)
    mixing = Mixing(CLASSES, 0.4, 1.0)
    partner = (np.arange(images) + images // 2) % images
    own = labels if several else torch.eye(CLASSES)[labels]
    for number in range(20):
        draw = mixing.draw([0, 1, number], CPU)
        mixed, targets, larger = mixing(pixels, labels, draw)
        from_other = (mixed != pixels).any(1).double()  # pixels with a part of the other image
        share = 1 - float(from_other.mean()) if draw[3] else float(draw[0])
        if images > 1:
            torch.testing.assert_close(targets, share * own + (1 - share) * own[partner])
        assert torch.equal(larger, labels if share >= 0.5 else labels[partner])


def test_two_processes_mix_the_pairs_of_one():
    pixels, labels = batch(8)
    mixing = Mixing(CLASSES, 0.4, 1.0)
    for number in range(6):
        draw = mixing.draw([0, 0, number], CPU)
        whole = mixing(pixels, labels, draw)
        for rank in (0, 1):
            part = mixing(pixels[rank::2], labels[rank::2], draw)
            for one, all_of_them in zip(part, whole, strict=True):
                assert torch.equal(one, all_of_them[rank::2])


@pytest.mark.parametrize("several", [False, True])
def test_a_training_step_learns_mixed_labels_and_counts_errors_by_the_larger_share(several):
    pixels, labels = batch(8, several)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 9 * 13, CLASSES))
    mixing, criterion = Mixing(CLASSES, 0.4, 1.0), Loss(None, several, 0.1)
    classifier = ImageClassifier(
        network, torch.optim.SGD, None, CLASSES, seed=3, criterion=criterion, mixing=mixing
    )
    loss = classifier.training_step((pixels, labels), 4)
    mixed, targets, larger = mixing(pixels, labels, mixing.draw([3, 0, 4], CPU))
    torch.testing.assert_close(loss, criterion(network(mixed), targets))
    if not several:
        wrong = (network(mixed).argmax(1) != larger).float().mean()
        assert classifier.train_metrics["error"].compute() == pytest.approx(100 * float(wrong))


@pytest.mark.parametrize("options", [{"mixup": -1, "cutmix": 0}, {"mixup": 0, "cutmix": "no"}])
def test_a_wrong_alpha_is_refused(options):
    with pytest.raises(OptionError, match=r"(mixup=-1|cutmix=no): must be a number at least 0"):
        Mixing(CLASSES, **options)
