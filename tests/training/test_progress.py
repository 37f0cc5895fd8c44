"""The line that a run prints after each epoch."""

from types import SimpleNamespace

import pytest

from densenet_cli.training.progress import TrainingProgress


@pytest.mark.parametrize(
    ("loss", "shown"),
    [
        (0.00049, "0.0005"),
        (1703.0, "1703.0000"),
        (2135885572253712.0, "2.136e+15"),
        (float("nan"), "nan"),
    ],
)
def test_a_loss_of_any_size_is_printed_in_a_few_characters(loss, shown):
    progress = TrainingProgress(None, False, "test", lambda _: None)
    row = {"epoch": 1, "learning_rate": 0.1, "images_per_second": 6.0, "seconds": 3.5}
    line = progress._line(row | {"test_loss": loss, "test_error": 66.6667}, 2)
    assert f"test loss {shown} error 66.67 %" in line


def test_loss_and_error_of_mixed_images_are_told_from_those_of_whole_ones():
    progress = TrainingProgress(None, False, "test", lambda _: None)
    row = {"epoch": 1, "learning_rate": 0.1, "images_per_second": 6.0, "seconds": 3.5}
    row |= {"train_loss": 1.0, "train_error": 50.0, "test_loss": 1.0, "test_error": 50.0}
    trainer = SimpleNamespace(max_epochs=2, current_epoch=0)
    for mixing, part in ((None, "50.00 %  test"), (object(), "50.00 % (mixed)  test")):
        progress.on_train_start(trainer, SimpleNamespace(mixing=mixing))
        assert f"train loss 1.0000 error {part} loss 1.0000 error 50.00 %  lr" in progress._line(row, 2)
