"""AUROC and F1 of several labels, compared with torchmetrics' and with sums over pairs."""

import pytest
import torch
from torchmetrics.functional.classification import (
    binary_f1_score,
    multilabel_auroc,
    multilabel_f1_score,
)

from densenet_cli.training import label_metrics, metrics

GENERATOR = torch.Generator().manual_seed(0)
LABELS = (torch.rand(300, 4, generator=GENERATOR) < torch.tensor([0.5, 0.3, 0.1, 0.03])).float()
LOGITS = (torch.randn(300, 4, generator=GENERATOR) + LABELS).bfloat16().float()  # with equal ones
BATCHES = [slice(0, 128), slice(128, 300)]


def _updated(metric, logits=LOGITS, labels=LABELS):
    for rows in BATCHES:
        metric.update(logits[rows], labels[rows])
    return metric


def _by_pairs(logits, labels):
    """The share of pairs that are ranked rightly, of each label."""
    found = []
    for score, truth in zip(logits.T.double(), labels.T > 0.5, strict=True):
        difference = score[truth][:, None] - score[~truth]
        found.append(((difference > 0).double() + (difference == 0).double() / 2).mean())
    return torch.stack(found)


def test_the_error_is_the_share_of_pairs_that_are_ranked_wrongly():
    error = _updated(label_metrics.RankingError())
    pairs = _by_pairs(LOGITS, LABELS)
    torch.testing.assert_close(label_metrics.auroc(LOGITS, LABELS).double(), pairs, atol=1e-6, rtol=0)
    assert float(error.compute()) == pytest.approx(100 - 100 * float(pairs.mean()), abs=1e-4)
    theirs = multilabel_auroc(LOGITS.sigmoid(), LABELS.long(), 4)
    assert float(error.compute()) == pytest.approx(100 - 100 * float(theirs), abs=1e-4)
    assert error.left_out == []


def test_large_logits_do_not_count_as_equal():
    logits, labels = torch.tensor([[30.0], [20.0], [25.0]]), torch.tensor([[1], [0], [1]])
    assert label_metrics.auroc(logits, labels).tolist() == [1]


def test_in_training_logits_are_rounded_to_bins():
    binned = _updated(label_metrics.BinnedRankingError(4))
    rounded = (LOGITS * 32).floor().clamp(-512, 511)
    expected = 100 - 100 * float(_by_pairs(rounded, LABELS).mean())
    assert float(binned.compute()) == pytest.approx(expected, abs=1e-4)
    exact = float(_updated(label_metrics.RankingError()).compute())
    assert float(binned.compute()) == pytest.approx(exact, abs=0.2)  # percent points
    extreme = torch.tensor([[torch.inf], [-torch.inf], [1e30], [torch.nan]])
    binned = label_metrics.BinnedRankingError(1)
    binned.update(extreme, torch.tensor([[1.0], [0], [1], [0]]))
    assert float(binned.compute()) == 0
    assert int(binned.counts.sum()) == 4


def test_f1_is_that_of_torchmetrics():
    found = _updated(label_metrics.MacroF1(4)).compute()
    expected = multilabel_f1_score(LOGITS.sigmoid(), LABELS.long(), 4, average="macro")
    assert float(found) == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize("several", [metrics.of_training, metrics.of_evaluation])
def test_a_label_that_none_or_all_have_is_left_out(several, caplog):
    labels = LABELS.clone()
    labels[:, 1], labels[:, 2] = 0, 1
    collection = several(4, several_labels=True)
    for rows in BATCHES:
        metrics.update(collection, LOGITS[rows], labels[rows], torch.tensor(1.0))
    found = metrics.compute(collection)
    kept = LOGITS[:, [0, 3]], LABELS[:, [0, 3]]
    assert metrics.warn_of_left_out(collection, "test", ["a", "b", "c", "d"])
    assert "no test image or every one has the label b, c: left out" in caplog.text
    assert float(found["error"]) == pytest.approx(100 - 100 * float(_by_pairs(*kept).mean()), abs=0.2)
    f1 = multilabel_f1_score(kept[0].sigmoid(), kept[1].long(), 2)
    assert float(found["f1"]) == pytest.approx(float(f1), abs=1e-6)


@pytest.mark.parametrize("several", [metrics.of_training, metrics.of_evaluation])
def test_labels_that_are_not_known_do_not_count(several):
    labels = LABELS.clone()
    labels[::3, 0], labels[5, 1:] = torch.nan, torch.nan
    collection = several(4, several_labels=True)
    for rows in BATCHES:
        metrics.update(collection, LOGITS[rows], labels[rows], torch.tensor(1.0))
    found, known = metrics.compute(collection), ~labels.isnan()
    kept = [(LOGITS[known[:, one], one], LABELS[known[:, one], one]) for one in range(4)]
    by_pairs = [float(_by_pairs(*(part[:, None] for part in pair))) for pair in kept]
    assert float(found["error"]) == pytest.approx(100 - 25 * sum(by_pairs), abs=0.2)
    f1 = [float(binary_f1_score(logits.sigmoid(), truth.long())) for logits, truth in kept]
    assert float(found["f1"]) == pytest.approx(sum(f1) / 4, abs=1e-6)


def test_without_pairs_and_with_nan_there_is_no_error():
    error = label_metrics.RankingError()
    error.update(torch.randn(3, 2), torch.ones(3, 2))
    assert error.compute().isnan()
    assert error.left_out == [0, 1]
    logits = LOGITS.clone()
    logits[7, 1] = torch.nan
    assert _updated(label_metrics.RankingError(), logits).compute().isnan()


def test_what_training_adds_up_keeps_its_size_and_place():
    collection = metrics.of_training(4, several_labels=True)
    before = [one.data_ptr() for _, _, one in metrics.States(collection)._states]
    sizes = [one.shape for _, _, one in metrics.States(collection)._states]
    metrics.update(collection, LOGITS, LABELS, torch.tensor(1.0))
    after = metrics.States(collection)._states
    assert [one.data_ptr() for _, _, one in after] == before
    assert [one.shape for _, _, one in after] == sizes


def test_half_an_epoch_that_is_saved_goes_on_as_if_it_were_whole():
    whole, half, other = (metrics.of_training(4, several_labels=True) for _ in range(3))
    for rows in BATCHES:
        metrics.update(whole, LOGITS[rows], LABELS[rows], torch.tensor(1.0))
    metrics.update(half, LOGITS[BATCHES[0]], LABELS[BATCHES[0]], torch.tensor(1.0))
    metrics.load_sums(other, metrics.sums(half), torch.device("cpu"))
    metrics.update(other, LOGITS[BATCHES[1]], LABELS[BATCHES[1]], torch.tensor(1.0))
    expected = metrics.compute(whole)
    assert metrics.compute(other) == expected
