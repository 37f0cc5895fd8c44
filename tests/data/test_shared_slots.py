"""Batches in shared slots: never overwritten while in use, and equal wherever they are finished."""

import pickle
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from image_folders import fill, folder
from training_batches import same, training_batches

from densenet_cli.data.loader import LazyLoader, Packed, are_forked
from densenet_cli.data.shared_slots import SharedSlots
from densenet_cli.data.split import FinishedSplit

pytestmark = [
    pytest.mark.usefixtures("cache"),
    pytest.mark.skipif(not are_forked(), reason="needs loader workers that are forked"),
]
CPU = SimpleNamespace(
    strategy=SimpleNamespace(root_device=torch.device("cpu")),
    training=True,
    global_rank=0,
    world_size=1,
    num_devices=1,
)


class Numbers:
    """Item n is a batch of images of n, of which odd ones are larger than a slot, and its label n."""

    def __getitem__(self, number):
        images = torch.full((1, 2, 2, 3 + number % 2), number, dtype=torch.uint8)
        return images, torch.tensor([number])


def numbers(items, workers=2):
    return LazyLoader(Numbers(), items, workers, set(), largest=12)


def are_whole(batches, items):
    return [int(label) for images, label in batches if (images == label).all()] == list(items)


def test_a_slot_is_free_once_no_tensor_shows_it():
    slots = SharedSlots(2, 16)
    slots.begin()
    first, second = slots.claim(), slots.claim()
    assert slots.claim() is None
    written = slots.write(first, torch.arange(4, dtype=torch.float32))
    assert slots.write(second, torch.arange(17, dtype=torch.uint8)) is None
    part = pickle.loads(pickle.dumps(slots)).read(written)[1:]
    assert part.tolist() == [1, 2, 3]
    slots.begin()
    assert slots.claim() == second
    assert slots.claim() is None
    del part
    assert slots.claim() == first


def test_images_that_are_made_in_a_slot_are_not_copied(monkeypatch):
    slots = SharedSlots(1, 12)
    slots.begin()
    slot = slots.claim()
    large = slots.empty(slot, (1, 13), dtype=torch.uint8)
    assert slots.write(slot, large) is None
    images = slots.empty(slot, (1, 3), dtype=torch.float32)
    images.copy_(torch.tensor([[1.0, 2.0, 3.0]]))
    monkeypatch.setattr(torch.Tensor, "copy_", None)
    assert slots.read(slots.write(slot, images)).tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("channels", [3, 1])
def test_photos_are_finished_in_a_slot(channels, tmp_path):
    data = folder(fill(tmp_path / "a", 2), channels=channels)
    split = FinishedSplit(data._read_contents().train, data.finished)
    tickets = next(iter(data.epoch_order()))
    expected = split[tickets][0]
    slots = SharedSlots(1, expected.nbytes)
    split.empty = partial(slots.empty, 0)
    images = split[tickets][0]
    assert images.data_ptr() == slots.empty(0, images.shape, dtype=images.dtype).data_ptr()
    assert torch.equal(images, expected)


@pytest.mark.parametrize("workers", [1, 2])
def test_kept_batches_stay_as_they_are(workers):
    """More than there are slots for, some too large for one, over two iterations of the loader."""
    loader = numbers(range(40), workers)
    kept = [batch for _ in range(2) for batch in loader]
    assert are_whole(kept, [*range(40), *range(40)])


def test_an_iteration_that_is_left_costs_no_slot():
    loader = numbers(range(0, 40, 2))
    for _ in range(10):
        assert are_whole([next(iter(loader))], [0])
    assert are_whole(list(loader), range(0, 40, 2))
    assert len(loader._slots._free) == loader._slots.slots


@pytest.mark.parametrize("channels", [3, 1])
def test_batches_are_equal_wherever_they_are_finished(channels, tmp_path):
    """In this process, by one thread and by two, and in any number of workers; also after a resume."""
    options = {"channels": channels, "batch_size": 5}
    root = fill(tmp_path / "a", 6)
    expected = training_batches(folder(root, **options), 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(3 - min(threads, 2))
    assert same(training_batches(folder(root, **options), 1), expected)
    torch.set_num_threads(threads)
    for workers in (1, 2, 3):
        data = folder(root, num_workers=workers, **options)
        data.trainer = CPU
        assert next(iter(data.train_dataloader()))[0].dtype == torch.float32
        data.resume_at(1, workers)
        assert same(training_batches(data, 1), expected[workers:])
        found, plain = data.test_dataloader(), folder(root, **options).test_dataloader()
        assert same(map(data.complete, found), map(data.complete, plain))


def test_a_skipped_image_is_known_whoever_changes_its_batch(tmp_path):
    root = fill(tmp_path / "a", 4)
    broken = root / "train" / "ant" / "2.png"
    broken.write_bytes(broken.read_bytes()[:50])
    data = folder(root, num_workers=2, check=False, skip_broken=True, randaugment=5)
    data.trainer = CPU
    training_batches(data, 0)
    assert list(data.skipped.found["train"]) == [str(broken)]


def test_a_pinned_batch_leaves_its_slot(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "pin_memory", torch.Tensor.clone)
    slots = SharedSlots(1, 12)
    slots.begin()
    batch = Numbers()[4]
    packed = pickle.loads(pickle.dumps(Packed.of(batch, slots, slots.claim()))).pin_memory()
    assert slots.claim() == 0
    slots.write(0, torch.zeros(12, dtype=torch.uint8))
    assert same([packed.batch()], [batch])
