"""Images that the device holds give the batches that the computer's memory gives."""

from types import SimpleNamespace

import pytest
import torch
from training_batches import same, training_batches

from densenet_cli.data import resident
from densenet_cli.data.digits import Digits


def digits(rank=0, processes=1, **options):
    data = Digits(batch_size=300, seed=3, **options)
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    data.trainer = SimpleNamespace(
        global_rank=rank, world_size=processes, strategy=strategy, training=True
    )
    return data


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"augment": False},
        {"validation": 333},
        {"rank": 1, "processes": 2},
        {"normalise": "zca"},
        {"normalise": "pixel_mean", "border": "reflect"},
        {"border": "reflect", "drop_last": True},
        {"normalise": "scale", "validation": 50, "augment": False},
    ],
    ids=str,
)
def test_a_batch_of_resident_images_is_the_same_to_the_last_bit(options, workers, monkeypatch):
    expected = [training_batches(digits(**options), epoch) for epoch in (0, 1)]
    monkeypatch.setattr(resident, "fit", lambda images, device: True)
    monkeypatch.setattr(Digits, "_trains_on_cpu", lambda self: False)  # where nothing is resident
    data = digits(**options, num_workers=workers)
    assert all(same(training_batches(data, epoch), expected[epoch]) for epoch in (0, 1))
    indices, draws = next(iter(data.train_dataloader()))
    assert indices.shape == draws.shape == expected[0][0][1].shape
    for loader in (data.val_dataloader(), data.test_dataloader()):
        images, _ = next(iter(loader))
        assert images.ndim == 4


def test_a_batch_that_is_left_to_the_step_is_completed_there(monkeypatch):
    monkeypatch.setattr(resident, "fit", lambda images, device: True)
    data = digits()
    data.leaves_training_batches = True
    (expected,) = training_batches(digits(), 0)[:1]
    batch = next(iter(data.train_dataloader()))
    assert data.on_after_batch_transfer(batch) is batch
    assert same([data.complete(batch)], [expected])
    data.trainer.training = False
    images, _ = data.on_after_batch_transfer(next(iter(data.test_dataloader())))
    assert images.dtype == torch.float32


@pytest.mark.parametrize(
    ("device", "free", "expected"), [("cpu", 2**40, False), ("cuda", 1000, True), ("cuda", 999, False)]
)
def test_images_are_resident_on_a_gpu_of_which_they_take_a_tenth_at_most(
    device, free, expected, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 2**40))
    images = torch.zeros(100, dtype=torch.uint8)
    assert resident.fit(images, torch.device(device)) is expected
