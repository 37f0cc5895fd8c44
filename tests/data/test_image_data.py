"""What all data sets guarantee, tested with the digits."""

from types import SimpleNamespace

import pytest
import torch
from lightning import LightningModule, Trainer
from torch import nn
from training_batches import same, training_batches

from densenet_cli.data.digits import Digits
from densenet_cli.options import OptionError, UserError


def digits(**options):
    data = Digits(**{"batch_size": 600, "seed": 3, **options})
    data.prepare()
    return data


def trainer(rank, world_size):
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    return SimpleNamespace(
        global_rank=rank,
        world_size=world_size,
        num_devices=world_size,
        training=True,
        strategy=strategy,
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_depend_only_on_seed_and_epoch(workers):
    expected = training_batches(digits(), 2)
    data = digits(num_workers=workers)
    training_batches(data, 0)
    assert same(training_batches(data, 2), expected)
    assert not same(training_batches(data, 1), expected)
    assert not same(training_batches(digits(seed=4), 2), expected)


def test_batches_are_normalised_float32_images_and_labels():
    for images, labels in training_batches(digits(augment=False), 0):
        assert images.shape == (len(labels), 3, 8, 8)
        assert images.dtype == torch.float32
        assert labels.dtype == torch.int64
    everything = torch.cat([images for images, _ in training_batches(digits(augment=False), 0)])
    assert abs(everything.mean()) < 1e-4
    assert abs(everything.std() - 1) < 1e-3


def test_only_training_images_are_augmented_and_only_if_asked_to():
    plain, augmented = digits(augment=False), digits(augment=True)
    assert not same(training_batches(plain, 0), training_batches(augmented, 0))
    for name in ("val_dataloader", "test_dataloader"):
        first, second = ([*getattr(data, name)()] for data in (plain, augmented))
        assert all(len(batch) == 2 for batch in second)
        assert same(first, second)


def test_two_ranks_see_together_what_one_process_sees():
    ranks = []
    for rank in range(2):
        data = digits()
        data.trainer = trainer(rank, 2)
        ranks.append(training_batches(data, 1))
    for whole, *parts in zip(training_batches(digits(), 1), *ranks, strict=True):
        for which in (0, 1):  # images, labels
            for rank, part in enumerate(parts):
                assert torch.equal(part[which], whole[which][: len(part[which]) * 2][rank::2])


def test_held_out_images_are_left_out_of_training_whatever_the_seed():
    first, second = digits(validation=100), digits(validation=100, seed=9)
    assert first.sizes == {"train": 1337, "validation": 100, "test": 360}
    assert first.evaluation_split == "validation"
    assert same(list(first.val_dataloader()), list(second.val_dataloader()))
    chosen = [data._contents.train.chosen.tolist() for data in (first, second)]
    held_out = first._contents.validation.chosen.tolist()
    assert chosen[0] == chosen[1]
    assert sorted(chosen[0] + held_out) == list(range(1437))


def test_without_held_out_images_the_test_images_are_evaluated():
    data = digits()
    assert data.sizes == {"train": 1437, "validation": 0, "test": 360}
    assert data.evaluation_split == "test"
    assert same(list(data.val_dataloader()), list(data.test_dataloader()))


def test_statistics_are_those_of_the_images_trained_on():
    whole, part = digits().statistics, digits(validation=1000).statistics
    assert whole != part
    data = digits(validation=1000, normalise="scale")
    assert data.statistics == {"mean": [0.0] * 3, "std": [1.0] * 3}
    pixels = torch.cat([images for images, _ in training_batches(data, 0)])
    plain = digits(validation=1000, normalise="scale", augment=False)
    pixels = torch.cat([images for images, _ in training_batches(plain, 0)]).double()
    assert pixels.min() == 0
    assert pixels.max() == 1
    assert part["mean"] == pytest.approx(pixels.mean((0, 2, 3)).tolist(), abs=1e-6)
    assert part["std"] == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist(), abs=1e-6)


def test_preparing_twice_reads_once(monkeypatch):
    data = digits()
    reads = []
    monkeypatch.setattr(data, "read", lambda: reads.append(data))
    data.prepare()
    data.setup("fit")
    assert not reads


def test_loaders_leave_the_global_random_numbers_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    data = digits(num_workers=1)
    training_batches(data, 0)
    list(data.val_dataloader())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("batch_size", 0, "batch_size=0: must be a whole number, 1 or more"),
        ("batch_size", 6.5, "batch_size=6.5: must be"),
        ("num_workers", -1, "num_workers=-1: must be a whole number, 0 or more"),
        ("augment", "yes", "augment=yes: must be true or false"),
        ("validation", -5, "validation=-5: must be a whole number, 0 or more"),
        ("validation", 1437, "validation=1437: must leave at least one of the 1437 training"),
        ("seed", -1, "seed=-1: must be"),
        ("normalise", "meanstd", "normalise=meanstd: .* normalise=mean_std"),
        ("normalise", "imagenet", "normalise=imagenet: must be one of mean_std, scale"),
    ],
)
def test_an_option_that_breaks_its_rule_is_named(key, value, rule):
    with pytest.raises(OptionError, match=rule) as caught:
        digits(**{key: value})
    assert caught.value.key == key


def test_a_batch_that_devices_cannot_share_is_refused():
    data = digits(batch_size=7)
    data.trainer = trainer(0, 2)
    with pytest.raises(OptionError, match=r"batch_size=7: must be a multiple of 2"):
        data.train_dataloader()
    data.trainer.world_size = 1000
    data.batch_size = 1000
    with pytest.raises(UserError, match="360 images cannot be shared by 1000 devices"):
        data.test_dataloader()


class Recorder(LightningModule):
    """Notes what it is trained on; saves a checkpoint after one chosen batch."""

    def __init__(self, save_at=None, save_to=None):
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.seen, self.save_at, self.save_to = [], save_at, save_to

    def training_step(self, batch, batch_idx):
        images, labels = batch
        self.seen.append((self.current_epoch, batch_idx, float(images.sum()), labels.tolist()))
        return self.layer(images.mean().view(1, 1)).sum()

    def on_train_batch_end(self, outputs, batch, batch_idx):
        if (self.current_epoch, batch_idx) == self.save_at:
            self.trainer.save_checkpoint(self.save_to)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


def fit(recorder, data, checkpoint=None):
    trainer = Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        inference_mode=False,
    )  # fmt: skip
    trainer.fit(recorder, data, ckpt_path=checkpoint, weights_only=False)
    return recorder.seen


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("save_at", "resume_at"), [((1, 0), (1, 1)), ((1, 1), (1, 2)), ((0, 2), (1, 0))]
)
def test_a_resumed_run_sees_the_batches_of_an_uninterrupted_one(save_at, resume_at, workers, tmp_path):
    checkpoint = str(tmp_path / "last.ckpt")
    unbroken = fit(Recorder(save_at, checkpoint), digits(num_workers=workers))
    assert [entry[:2] for entry in unbroken] == [(e, b) for e in range(3) for b in range(3)]
    data = digits(num_workers=workers)
    data.resume_at(*resume_at)
    resumed = fit(Recorder(), data, checkpoint)
    assert resumed == unbroken[resume_at[0] * 3 + resume_at[1] :]


@pytest.mark.parametrize("workers", [0, 2])
def test_the_epoch_may_be_set_after_the_iterator_is_made(workers):
    data = digits(num_workers=workers)
    loader = data.train_dataloader()
    iterator = iter(loader)  # Lightning does this first when it resumes a run
    loader.sampler.set_epoch(2)
    assert same([data.on_after_batch_transfer(next(iterator), 0)], training_batches(digits(), 2)[:1])


def test_resume_at_reaches_a_loader_that_is_there_already():
    data = digits()
    loader = data.train_dataloader()
    data.resume_at(2, 1)
    assert len(loader) == 3
    rest = [data.on_after_batch_transfer(batch, 0) for batch in loader]
    assert same(rest, training_batches(digits(), 2)[1:])
