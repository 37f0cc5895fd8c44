"""CUDA graphs: passes that are recorded and replayed; see fake_graphs.py for those on the CPU."""

import contextlib
import copy
import random

import numpy as np
import pytest
import torch
from lightning import seed_everything
from test_auxiliary import TwoClassifiers
from torch import nn

from densenet_cli.kernels import fuse
from densenet_cli.models.densenet import DenseNet
from densenet_cli.models.resnet import ResNet
from densenet_cli.training import auxiliary, graph_recording
from densenet_cli.training.cuda_graphs import CudaGraphs
from densenet_cli.training.graph_recording import WARM_UP, Recorder


class SeesAutocast(torch.autograd.Function):
    """The identity, which notes whether autocast is on in each pass."""

    seen = []  # noqa: RUF012

    @staticmethod
    def forward(ctx, values):
        SeesAutocast.seen.append(torch.is_autocast_enabled("cpu"))
        return values.clone()

    @staticmethod
    def backward(ctx, gradient):
        SeesAutocast.seen.append(torch.is_autocast_enabled("cpu"))
        return gradient


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 4))


def images(number=5):
    return torch.randn(number, 3, 2, 2)


def test_an_evaluation_is_recorded_after_the_first_passes(graphs_made):
    graphs, module = CudaGraphs(network()), network()
    with torch.inference_mode():
        for number in range(WARM_UP + 3):
            batch = images()
            assert len(graphs_made) == (number > WARM_UP)
            torch.testing.assert_close(graphs(batch), module(batch))
    assert graphs_made[0].replays == 3


def test_smaller_batches_are_computed_without_a_recording(graphs_made):
    graphs, module = CudaGraphs(network()), network()
    with torch.inference_mode():
        for number in (5, 5, 5, 5, 3, 3, 3, 3, 3, 5):
            batch = images(number)
            torch.testing.assert_close(graphs(batch), module(batch))
    assert [graph.replays for graph in graphs_made] == [2]


def test_a_network_whose_parameters_moved_is_recorded_again(graphs_made):
    module = network()
    graphs = CudaGraphs(module)
    with torch.inference_mode():
        for _ in range(WARM_UP + 1):
            graphs(images())
        for moved in (nn.Parameter(torch.ones(4, 12)), nn.Parameter(torch.zeros(4, 12))):
            module[1].weight = moved
            batch = images()
            torch.testing.assert_close(graphs(batch), module(batch))
    assert len(graphs_made) == 3


def test_a_network_that_cannot_be_recorded_is_computed_without(graphs_made, monkeypatch, caplog):
    def fail(recorder, compute):
        try:
            raise RuntimeError("no room to record\nin detail")
        finally:
            raise RuntimeError("the recording has failed")

    monkeypatch.setattr(Recorder, "record", fail)
    graphs, module = CudaGraphs(network()), network()
    for _ in range(WARM_UP + 3):
        batch = images()
        torch.testing.assert_close(graphs(batch), module(batch))
    (message,) = caplog.messages
    assert message.endswith("cannot be recorded: no room to record")


def test_blocks_that_are_left_out_at_random_are_not_recorded(graphs_made, caplog):
    """Replays would leave out the same ones for ever."""
    torch.manual_seed(0)
    network = ResNet(4, 8, survival_probability=0.5)
    reference, batch = copy.deepcopy(network), torch.randn(5, 3, 4, 4)
    graphs = CudaGraphs(network)
    for _ in range(WARM_UP + 6):
        logits, expected = graphs(batch), reference(batch)
        assert torch.equal(logits, expected)
        logits.sum().backward()
    (message,) = caplog.messages
    assert "draws random numbers on the CPU" in message


@pytest.mark.parametrize("draw", [lambda: torch.rand(()).item(), random.random, np.random.rand])
def test_a_network_that_draws_random_numbers_on_the_cpu_is_computed_without(draw, graphs_made, caplog):
    """Replays would repeat what it drew in the recording. It draws as if there had been none."""

    class Draws(nn.Linear):
        def forward(self, images):
            return super().forward(images.flatten(1)) * draw()

    def answers(compute):
        seed_everything(0, verbose=False)
        return [compute(images()) for _ in range(WARM_UP + 3)]

    module = Draws(12, 4)
    for one, other in zip(answers(CudaGraphs(module)), answers(module), strict=True):
        assert torch.equal(one, other)
    (message,) = caplog.messages
    assert "draws random numbers on the CPU" in message


class ReplacesItsBuffer(nn.Linear):
    """Divides by a running mean, a new tensor in each pass."""

    def __init__(self, fails):
        super().__init__(12, 4)
        self.fails, self.passes = fails, 0
        self.register_buffer("mean", torch.ones(()))

    def forward(self, images):
        self.passes += 1
        self.mean = 0.9 * self.mean + images.mean().detach()
        if self.fails and self.passes == WARM_UP + 1:
            raise RuntimeError("this cannot be captured")
        return super().forward(images.flatten(1)) / self.mean


@pytest.mark.parametrize(
    ("fails", "reason"), [(False, "replaces its buffers"), (True, "this cannot be captured")]
)
def test_what_a_network_has_replaced_is_put_back_when_it_is_not_recorded(
    fails, reason, graphs_made, caplog
):
    """A recording computes nothing, so the new tensors have no values."""
    module = ReplacesItsBuffer(fails)
    same = copy.deepcopy(module)
    same.fails = False
    graphs = CudaGraphs(module)
    for _ in range(WARM_UP + 3):
        batch = images()
        assert torch.equal(graphs(batch), same(batch))
    (message,) = caplog.messages
    assert reason in message


def test_a_recording_takes_a_stream_of_its_own_device(monkeypatch):
    """torch's default is one stream for all devices, on which that of another device stays empty."""
    entered = []

    @contextlib.contextmanager
    def graph(graph, pool, stream, capture_error_mode):
        entered.append(stream)
        yield

    monkeypatch.setattr(torch.cuda, "graph_pool_handle", object)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: f"stream of {device}")
    monkeypatch.setattr(torch.cuda, "graph", graph)
    for number in (0, 1):
        Recorder(torch.device("cuda", number)).record(lambda: None)
    assert entered == ["stream of cuda:0", "stream of cuda:1"]


def test_a_recording_that_needs_too_much_memory_is_discarded(graphs_made, monkeypatch, caplog):
    monkeypatch.setattr(graph_recording, "_free", lambda device: 999)
    graphs, module = CudaGraphs(network()), network()
    with torch.inference_mode():
        for _ in range(WARM_UP + 3):
            batch = images()
            torch.testing.assert_close(graphs(batch), module(batch))
    assert not graphs._recorded
    assert "too little memory" in caplog.text


@pytest.mark.parametrize(("share", "free"), [(1.0, 70), (0.5, 20)])
def test_on_a_shared_gpu_the_free_memory_is_that_of_the_share(share, free, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (70, 100))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 30)
    monkeypatch.setattr(
        torch.cuda, "get_per_process_memory_fraction", lambda device: share, raising=False
    )
    assert graph_recording._free("cuda") == free


def test_a_recorded_backward_pass_must_follow_its_own_forward_pass(graphs_made):
    graphs = CudaGraphs(network())
    for _ in range(WARM_UP + 1):
        logits = graphs(images())
    earlier = logits.sum()
    graphs(images())
    with pytest.raises(RuntimeError, match="another pass has overwritten"):
        earlier.backward()


def test_the_backward_pass_is_recorded_outside_of_autocast(graphs_made):
    class Module(nn.Linear):
        def forward(self, images):
            return SeesAutocast.apply(super().forward(images.flatten(1)))

    graphs, batch = CudaGraphs(Module(12, 4)), images()
    with torch.autocast("cpu", torch.bfloat16):
        for _ in range(WARM_UP):
            graphs(batch)
        SeesAutocast.seen.clear()
        graphs(batch)
    assert SeesAutocast.seen[:2] == [True, False]  # the replay comes after them


def test_on_the_cpu_nothing_is_recorded():
    graphs = CudaGraphs(network())
    for _ in range(WARM_UP + 2):
        graphs(images())
    assert not graphs._recorded


class InFloat32(nn.Linear):
    """Computes in float32 although autocast is on."""

    def forward(self, values):
        with torch.autocast("cuda", enabled=False):
            return super().forward(values.float())


def made(kind):
    torch.manual_seed(0)
    if kind == "resnet":
        module = ResNet(num_classes=10, depth=8)
    elif kind == "partly in float32":
        module = nn.Sequential(ResNet(num_classes=10, depth=8), InFloat32(10, 10))
    elif kind == "auxiliary classifier":
        module = TwoClassifiers(10)
    else:
        module = DenseNet(10, growth_rate=8, depth=16, dropout=0.2)
    module = module.cuda().to(memory_format=torch.channels_last)
    return fuse(module) if kind == "fused" else module


def trained(module, compute):
    """The losses of some steps, one with a smaller batch, and the last logits of an evaluation."""
    optimizer = torch.optim.SGD(module.parameters(), 0.1, momentum=0.9)
    losses = []
    for number in range(WARM_UP + 6):
        torch.manual_seed(number)  # as each step of a run
        batch = torch.randn(4 if number == WARM_UP + 2 else 8, 3, 32, 32, device="cuda")
        with torch.autocast("cuda", torch.bfloat16):
            logits = compute(batch.contiguous(memory_format=torch.channels_last)).float()
        _, loss = auxiliary.losses(logits, torch.arange(len(batch), device="cuda"))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        with torch.inference_mode():
            module.eval()
            answer = compute(batch).float().clone()
            module.train()
    return losses, answer


@pytest.mark.gpu
@pytest.mark.parametrize(
    "kind", ["resnet", "partly in float32", "auxiliary classifier", "reference", "fused"]
)
def test_training_with_recordings_gives_the_same_weights(kind):
    one, other = made(kind), made(kind)
    graphs = CudaGraphs(other)
    losses, answer = trained(one, one)
    recorded_losses, recorded_answer = trained(other, graphs)
    assert graphs._recorded.keys() == {True, False}
    assert losses == recorded_losses
    assert torch.equal(answer, recorded_answer)
    for name, number in one.state_dict().items():
        assert torch.equal(number, other.state_dict()[name]), name


class ReadsFromGPU(nn.Module):
    """Reads a number from the GPU, which cannot be recorded, after a random draw."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, images):
        drawn = nn.functional.dropout(images)
        return self.linear(drawn.mean((2, 3))) if drawn.sum().item() else None


@pytest.mark.gpu
def test_training_continues_after_a_failed_recording(caplog):
    graphs, batch = CudaGraphs(ReadsFromGPU().cuda()), torch.randn(4, 3, 5, 5, device="cuda")
    for number in range(WARM_UP + 3):
        torch.manual_seed(number)
        graphs(batch).sum().backward()
    assert not graphs.is_possible
    assert "stream is capturing" in caplog.text
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    torch.cuda.empty_cache()  # as Lightning does at the end
    same = copy.deepcopy(graphs.network)
    torch.manual_seed(5)
    found = graphs(batch)
    torch.manual_seed(5)
    assert torch.equal(found, same(batch))
