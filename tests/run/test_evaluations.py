"""Evaluations within epochs (trainer.val_check_interval), and the best one of them."""

import lightning.pytorch as L
import pytest
import torch
from short_run import SMALL, StopAfter, train_short, weights

from densenet_cli.training.checkpoints import load_checkpoint
from densenet_cli.training.interruption import Interrupted, Interruption

# As stochastic depth's authors did on SVHN: after every 4 (they: 200) steps of all epochs.
EVERY_4 = ["++trainer.val_check_interval=4", "++trainer.check_val_every_n_epoch=null"]
EPOCH = 5  # steps of 256 of 1,237 images


class Evaluations(L.Callback):
    """The step, error and loss of each evaluation, and the weights that were evaluated."""

    def __init__(self):
        self.seen, self.weights = [], []

    def on_validation_end(self, trainer, module):
        found = trainer.callback_metrics
        error, loss = round(float(found["validation/error"]), 4), float(found["validation/loss"])
        self.seen.append((trainer.global_step, error, loss))
        self.weights.append({name: one.clone() for name, one in module.network.state_dict().items()})


@pytest.fixture
def held_out(short):
    """A configuration whose run holds out images and reports the best evaluation of them."""

    def configure(*overrides):
        whole = ["data.validation=200", "recipe.report=best", "++trainer.limit_val_batches=1.0"]
        return short(*whole, "++trainer.limit_test_batches=1", *overrides)

    return configure


def _rows(folder):
    state = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
    rows = state["callbacks"]["TrainingProgress"]["rows"]
    return [
        {name: value for name, value in row.items() if name not in ("seconds", "images_per_second")}
        for row in rows
    ]


def test_the_best_evaluation_may_be_within_an_epoch(held_out, tmp_path):
    noted = Evaluations()
    results, epochs = train_short(held_out("epochs=4", *EVERY_4), tmp_path, noted)
    assert [step for step, *_ in noted.seen] == [4, 8, 12, 16, 20]
    best = min(range(5), key=lambda index: noted.seen[index][1])  # the first of the lowest
    step, error, _ = noted.seen[best]
    assert results["validation_error_best"] == error
    assert results["best_epoch"] == -(-step // EPOCH)
    assert results.get("best_step") == (step if step % EPOCH else None)
    found = load_checkpoint(tmp_path / "checkpoints/best.ckpt")["state_dict"]
    kept = noted.weights[best]
    assert all(torch.equal(found[f"network.{name}"], tensor) for name, tensor in kept.items())
    assert epochs == [1, 2, 3, 4]
    latest = [noted.seen[index][1] for index in (0, 1, 2, 4)]  # of each epoch; the 4th has two
    assert [row["validation_error"] for row in _rows(tmp_path)] == latest


@pytest.mark.parametrize(
    ("words", "step", "saved"),
    [
        (" ".join(EVERY_4), 4, 5),  # where it is evaluated: it stops only after the next step
        (" ".join(EVERY_4), 9, 9),
        pytest.param(" ".join(EVERY_4), 3, 3, marks=pytest.mark.slow),
        pytest.param(" ".join(EVERY_4), 5, 5, marks=pytest.mark.slow),
        pytest.param(" ".join(EVERY_4), 6, 6, marks=pytest.mark.slow),
        pytest.param(" ".join(EVERY_4), 17, 17, marks=pytest.mark.slow),
        pytest.param("++trainer.val_check_interval=2", 2, 3, marks=pytest.mark.slow),
        pytest.param("++trainer.val_check_interval=2", 8, 8, marks=pytest.mark.slow),
        pytest.param("++trainer.val_check_interval=0.5", 13, 13, marks=pytest.mark.slow),
        pytest.param(" ".join([*EVERY_4, "recipe.ema_decay=0.9"]), 7, 7, marks=pytest.mark.slow),
        pytest.param(" ".join([*EVERY_4, "budget=3.5epochs"]), 6, 6, marks=pytest.mark.slow),
    ],
)
def test_a_resumed_run_has_the_evaluations_of_an_uninterrupted_one(
    words, step, saved, held_out, tmp_path
):
    configuration = held_out("epochs=4", *words.split())
    noted, before, after = Evaluations(), Evaluations(), Evaluations()
    whole = train_short(configuration, tmp_path / "whole", noted)
    broken, interruption = tmp_path / "broken", Interruption()
    stop = StopAfter(step, interruption)
    with pytest.raises(Interrupted):
        train_short(configuration, broken, before, stop, interruption=interruption)
    last = broken / "checkpoints/last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == saved
    results, _ = train_short(configuration, broken, after, resume_from=last)
    assert before.seen + after.seen == noted.seen
    assert results == whole[0]
    assert _rows(broken) == _rows(tmp_path / "whole")
    ours, theirs = weights(broken), weights(tmp_path / "whole")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ("++trainer.val_check_interval=1", ["val_check_interval=1", "val_check_interval=2"]),
        ("++trainer.val_check_interval=00:10:00", ["val_check_interval=00:10:00", "batches"]),
        ("++trainer.val_check_interval=-2", ["val_check_interval=-2", "batches"]),
    ],
)
def test_what_cannot_be_resumed_is_refused_with_one_message(overrides, words, refused):
    message = refused(*SMALL, *overrides.split())
    assert [word for word in words if word not in message] == []
