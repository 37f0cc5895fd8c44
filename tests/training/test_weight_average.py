"""The moving average of the weights, beside Lightning's EMAWeightAveraging."""

import copy
import json
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import EMAWeightAveraging
from tiny_run import TINY
from torch import nn

from densenet_cli.options import UserError
from densenet_cli.training.weight_average import WeightAverage


class Network(LightningModule):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.tied = self.conv
        self.to(memory_format=torch.channels_last)

    def forward(self, images):
        return self.norm(self.tied(images)).sum(dim=(1, 2, 3))


def _trained(network, average, steps, first=0):
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for step in range(first, first + steps):
        images = torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        (network(images) ** 2).mean().backward()
        optimizer.step()
        trainer = SimpleNamespace(global_step=step + 1)
        average.on_train_batch_end(trainer, network, None, None, step)
        average.on_train_batch_end(trainer, network, None, None, step)  # a batch without a step


def _saved(network, average):
    checkpoint = {"state_dict": network.state_dict()}
    average.on_save_checkpoint(None, network, checkpoint)
    return copy.deepcopy(checkpoint)


@pytest.fixture
def network():
    return Network()


def test_a_share_of_the_run_gives_the_decay_whose_mean_age_that_is(network):
    by_share, other = WeightAverage(None, 0.05), copy.deepcopy(network)
    by_share.on_fit_start(SimpleNamespace(estimated_stepping_batches=200), network)
    by_decay = WeightAverage(0.9)  # averages of the last 1 / (1 - 0.9) = 10 = 0.05 x 200 steps
    by_decay.on_fit_start(None, other)
    _trained(network, by_share, 7)
    _trained(other, by_decay, 7)
    first, second = (_saved(*pair)["state_dict"] for pair in ((network, by_share), (other, by_decay)))
    for name, average in first.items():
        torch.testing.assert_close(average, second[name])
    network.steps = 40  # of a run whose length is set by a budget
    by_share.on_fit_start(SimpleNamespace(estimated_stepping_batches=200), network)
    assert by_share.decay == pytest.approx(0.5)


def test_averages_are_those_of_lightning(network):
    theirs, other = EMAWeightAveraging(decay=0.9), copy.deepcopy(network)
    theirs.setup(None, other, "fit")
    ours = WeightAverage(0.9)
    ours.on_fit_start(None, network)
    _trained(network, ours, 7)
    _trained(other, theirs, 7)
    assert ours.state_dict() == theirs.state_dict()
    saved, expected = _saved(network, ours), _saved(other, theirs)
    assert saved["state_dict"].keys() == expected["state_dict"].keys()
    for name, value in expected["state_dict"].items():
        if value.is_floating_point():
            torch.testing.assert_close(saved["state_dict"][name], value, rtol=2e-6, atol=1e-7)
        torch.testing.assert_close(
            saved["current_model_state"][name], expected["current_model_state"][name], rtol=0, atol=0
        )
    assert saved["state_dict"]["norm.num_batches_tracked"] == 7
    # an evaluation sees the averages, training the weights
    ours.on_validation_epoch_start(None, network)
    for name, value in network.state_dict().items():
        assert torch.equal(value, saved["state_dict"][name])
    ours.on_validation_epoch_end(None, network)
    for name, value in network.state_dict().items():
        assert torch.equal(value, saved["current_model_state"][name])
    ours.on_fit_end(None, network)
    for name, value in network.state_dict().items():
        assert torch.equal(value, saved["state_dict"][name])


def test_a_resumed_average_has_the_same_bits(network):
    begun = copy.deepcopy(network)
    whole = WeightAverage(0.9)
    whole.on_fit_start(None, network)
    _trained(network, whole, 6)

    first = WeightAverage(0.9)
    first.on_fit_start(None, begun)
    _trained(begun, first, 3)
    saved, state = _saved(begun, first), first.state_dict()

    resumed, second = Network(), WeightAverage(0.9)
    resumed.load_state_dict(saved["state_dict"])
    second.on_load_checkpoint(None, resumed, saved)
    second.load_state_dict(state)
    second.on_fit_start(None, resumed)
    _trained(resumed, second, 3, first=3)
    for part, values in _saved(network, whole).items():
        for name, value in values.items():
            assert torch.equal(value, _saved(resumed, second)[part][name]), (part, name)


def test_a_step_takes_few_operations_and_reads_nothing_back(network):
    from torch.utils._python_dispatch import TorchDispatchMode

    class Operations(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.names = []

        def __torch_dispatch__(self, function, types, arguments=(), options=None):
            self.names.append(function.overloadpacket.__name__)
            return function(*arguments, **(options or {}))

    average = WeightAverage(0.9)
    average.on_fit_start(None, network)
    _trained(network, average, 1)
    with Operations() as operations:
        average.on_train_batch_end(SimpleNamespace(global_step=2), network)
    assert operations.names == ["_foreach_lerp_", "_foreach_copy_"]


def test_a_network_that_replaces_a_buffer_is_refused(network):
    average = WeightAverage(0.9)
    average.on_fit_start(None, network)
    network.norm.running_mean = network.norm.running_mean + 1
    with pytest.raises(UserError, match=r"recipe\.ema_decay=0\.9: norm\.running_mean"):
        _saved(network, average)


def test_a_run_that_stopped_before_its_test_tests_the_averages(typed, tmp_path):
    run = [*TINY, "epochs=1", "recipe.ema_decay=0.9", "hydra.run.dir=outputs/run"]
    assert typed(*run)[0] == 0
    path = tmp_path / "outputs/run/run.json"
    before = json.loads(path.read_text())
    results = before["results"]
    path.write_text(json.dumps({**before, "state": "interrupted", "results": {}}))
    status, message = typed("resume=outputs/run")
    assert status == 0, message
    assert json.loads(path.read_text())["results"] == results
