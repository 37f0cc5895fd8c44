"""What a run shows of each epoch."""

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
def test_a_loss_is_as_short_as_others_whatever_its_size(loss, shown):
    progress = TrainingProgress(None, False, "test", lambda _: None)
    row = {"epoch": 1, "learning_rate": 0.1, "images_per_second": 6.0, "seconds": 3.5}
    line = progress._line(row | {"test_loss": loss, "test_error": 66.6667}, 2)
    assert f"test loss {shown} error 66.67 %" in line
