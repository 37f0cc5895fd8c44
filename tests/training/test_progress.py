"""The line that a run prints after each epoch."""

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
