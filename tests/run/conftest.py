import pytest
from short_run import SMALL


@pytest.fixture
def short(config):
    """A configuration in which an epoch has 6 steps, and little is evaluated."""

    def configure(*overrides):
        few = ["data.batch_size=256", "++trainer.limit_test_batches=0", "++trainer.limit_val_batches=1"]
        return config(*SMALL, *few, *overrides)

    return configure
