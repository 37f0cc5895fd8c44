"""Whole training steps that are recorded and replayed; see fake_graphs.py for graphs on the CPU."""

import logging
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback
from tiny_run import TINY

from densenet_cli.data import resident
from densenet_cli.run import assemble
from densenet_cli.run.train import train
from densenet_cli.training import cuda_graphs, rate_tensors
from densenet_cli.training.cuda_graphs import CudaGraphs
from densenet_cli.training.graph_recording import WARM_UP
from densenet_cli.training.interruption import Interruption

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def train_as_on_a_gpu(patch):
    """Learning rates in tensors, and images on the device, whichever it is."""
    patch.setattr(rate_tensors, "DEVICES", ("cpu", "cuda"))
    patch.setattr(resident, "fit", lambda images, device: True)


@pytest.fixture(autouse=True)
def _as_on_a_gpu(monkeypatch):
    train_as_on_a_gpu(monkeypatch)


@pytest.fixture
def no_passes(monkeypatch, caplog):
    """Record whole steps only; they log why they cannot."""
    monkeypatch.setattr(cuda_graphs, "can_be_recorded", lambda device: False)
    caplog.set_level(logging.INFO)


class Trained:
    """A run of the digits on the CPU, whose steps are recorded or not."""

    def __init__(
        self, config, folder, recorded, resume_from=None, change=lambda run: None, callbacks=()
    ):
        self.folder, self.recorded, self.change = folder, recorded, change
        self.results = train(
            config,
            folder,
            Interruption(),
            on_ready=self._accelerate,
            on_epoch=self._keep,
            callbacks=callbacks,
            resume_from=resume_from,
        )

    def _accelerate(self, run):
        self.classifier, self.progress = run.classifier, run.progress
        self.change(run)
        if self.recorded:
            run.classifier.graphs = CudaGraphs(run.classifier.network)
            assemble.record_steps(run.classifier, run.data, run.classifier.graphs)

    def _keep(self, progress):
        last = self.folder / "checkpoints/last.ckpt"
        if last.exists():  # that of the epoch before
            shutil.copy(last, self.folder / "earlier.ckpt")

    def state(self):
        """All that the run has learned and reported."""
        speeds = ("seconds", "images_per_second")
        rows = [
            {name: value for name, value in row.items() if name not in speeds}
            for row in self.progress.rows
        ]
        saved = torch.load(self.folder / "checkpoints/last.ckpt", weights_only=True)
        weights = saved["state_dict"] | {
            f"current {name}": value for name, value in saved.get("current_model_state", {}).items()
        }
        return weights, saved["optimizer_states"], rows, self.results


def assert_equal(one, other):
    assert one[0].keys() == other[0].keys()
    for name, number in one[0].items():
        assert torch.equal(number, other[0][name]), name
    (first,), (second,) = one[1], other[1]
    assert first["param_groups"] == second["param_groups"]
    for index, state in first["state"].items():
        for name, number in state.items():
            assert torch.equal(number, second["state"][index][name]), (index, name)
    assert one[2:] == other[2:]


OVERRIDES = [*TINY, "model.dropout=0", "trainer.implementation=reference", "trainer.precision=32-true"]


@pytest.mark.parametrize(
    "overrides",
    [
        ["recipe.label_smoothing=0.1", "data.validation=99", "recipe.ema_decay=0.9"],
        ["recipe=one_cycle", "epochs=2", "recipe.gradient_clip=0.5"],
        [
            "recipe.batch_size=400",
            "epochs=6",
            "recipe.gradient_clip=0.05",
            "trainer.precision=bf16-mixed",
        ],
        ["data.normalise=zca", "data.border=reflect", "data.drop_last=true"],
        [
            *("recipe=wide_resnet", "data.batch_size=64", "epochs=3", "data.drop_last=true"),
            "recipe.warm_up={rate:0.01,steps:9}",
        ],
        ["recipe.mixup=0.2", "recipe.cutmix=1.0", "recipe.label_smoothing=0.1"],
    ],
    ids=[
        *("averaged weights", "new rate each step", "smaller last batches", "whitened whole batches"),
        *("cleared momentum", "mixed images"),
    ],
)
def test_recorded_steps_give_the_same_bits_as_steps_as_they_come(
    overrides, config, graphs_made, tmp_path
):
    options = config(*OVERRIDES, *overrides)
    plain = Trained(options, tmp_path / "plain", recorded=False)
    assert not graphs_made
    recorded = Trained(options, tmp_path / "recorded", recorded=True)
    assert_equal(plain.state(), recorded.state())
    steps = [graph.replays for graph in graphs_made if type(graph).__name__ == "FakeStep"]
    whole = (1437 - options["data"]["validation"]) // options["data"]["batch_size"]
    assert steps == [options["epochs"] * whole - WARM_UP]
    assert True not in recorded.classifier.graphs._recorded  # no smaller batch took the place


def test_recorded_steps_measure_several_labels(config, graphs_made, tmp_path):
    options = config(*OVERRIDES, "recipe.class_weights=balanced", "recipe.label_smoothing=0.1")
    options["data"]["_target_"] = "findings.Findings"
    plain = Trained(options, tmp_path / "plain", recorded=False)
    recorded = Trained(
        options, tmp_path / "recorded", recorded=True, resume_from=tmp_path / "plain/earlier.ckpt"
    )
    assert_equal(plain.state(), recorded.state())
    assert plain.results.keys() >= {"test_error", "test_f1"}
    assert [graph.replays for graph in graphs_made if type(graph).__name__ == "FakeStep"] == [1]


def test_a_resumed_run_of_recorded_steps_ends_as_the_uninterrupted_one(config, graphs_made, tmp_path):
    options = config(*OVERRIDES, "recipe.mixup=0.2", "recipe.cutmix=1.0")
    whole = Trained(options, tmp_path / "whole", recorded=True)
    resumed = Trained(
        options, tmp_path / "resumed", recorded=True, resume_from=tmp_path / "whole/earlier.ckpt"
    )
    assert_equal(whole.state(), resumed.state())


ADAM = ["recipe.optimizer._target_=torch.optim.Adam", "recipe.optimizer.lr=0.001"]


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ([*ADAM, "~recipe.optimizer.momentum", "~recipe.optimizer.nesterov"], "is not the fused SGD"),
        (["+recipe.optimizer.foreach=true"], "is not the fused SGD"),
        (["recipe=one_cycle", "recipe.schedule.cycle_momentum=true"], "of their optimizer change"),
    ],
    ids=["Adam", "foreach", "cycled momentum"],
)
def test_steps_of_other_optimizers_are_not_recorded_as_a_whole(
    overrides, reason, config, graphs_made, no_passes, tmp_path, caplog
):
    options = config(*OVERRIDES, *overrides, "epochs=1")
    plain = Trained(options, tmp_path / "plain", recorded=False)
    recorded = Trained(options, tmp_path / "recorded", recorded=True)
    assert_equal(plain.state(), recorded.state())
    assert any(reason in message for message in caplog.messages)
    assert not graphs_made


class DrawsOnTheCPU(torch.nn.Module):
    """Noise from the CPU's generator in training."""

    def forward(self, values):
        return values + 0.1 * torch.randn(values.shape) if self.training else values


def test_a_step_that_draws_on_the_cpu_is_computed_as_it_comes(
    config, graphs_made, no_passes, tmp_path, caplog
):
    def with_noise(run):
        run.classifier.network.classifier = torch.nn.Sequential(
            DrawsOnTheCPU(), run.classifier.network.classifier
        )

    options = config(*OVERRIDES, "epochs=1")
    plain = Trained(options, tmp_path / "plain", recorded=False, change=with_noise)
    recorded = Trained(options, tmp_path / "recorded", recorded=True, change=with_noise)
    assert_equal(plain.state(), recorded.state())
    message = "whole steps are not recorded: this network draws random numbers on the CPU"
    assert message in caplog.text


def test_a_step_whose_parameters_moved_is_recorded_again(config, graphs_made, tmp_path):
    class Moves(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if batch_idx == WARM_UP + 5:
                weight = pl_module.network.classifier.weight
                weight.data = weight.data.clone()

    options = config(*OVERRIDES, "epochs=1")
    plain = Trained(options, tmp_path / "plain", recorded=False, callbacks=[Moves()])
    recorded = Trained(options, tmp_path / "recorded", recorded=True, callbacks=[Moves()])
    assert_equal(plain.state(), recorded.state())
    steps = [graph.replays for graph in graphs_made if type(graph).__name__ == "FakeStep"]
    assert steps == [5, 1437 // 64 - WARM_UP - 5]


PROGRAM = """
import os, sys
from pathlib import Path

import pytest, torch
from fake_graphs import record_on_the_cpu
from test_recorded_step import TINY, Trained, train_as_on_a_gpu

from densenet_cli.config import resolvers
from densenet_cli.config.compose import compose, composing, resolved

resolvers.register()
torch.set_num_threads(1)
with composing():
    options = resolved(compose([*(one for one in TINY if one != "trainer=cpu"), *sys.argv[2:]]))
folder, rank = Path(sys.argv[1]), os.environ["RANK"]
with pytest.MonkeyPatch.context() as patch:
    graphs = record_on_the_cpu(patch)
    train_as_on_a_gpu(patch)
    for name in ("plain", "recorded"):
        run = Trained(options, folder / (name + rank), recorded=name == "recorded")
        weights = run.classifier.network.state_dict(), run.results
        torch.save(run.state() if rank == "0" else weights, folder / (name + rank + ".pt"))
    steps = [graph.replays for graph in graphs if type(graph).__name__ == "FakeStep"]
    assert steps == [2 * (1437 // 64) - 3] * 2, steps
"""


@pytest.mark.slow
def test_two_processes_train_the_same_bits_with_recorded_steps(tmp_path):
    """Each records two graphs, between which gradients are averaged over gloo."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    tests = Path(__file__).parent
    about = {
        "PYTHONPATH": f"{tests}{os.pathsep}{tests.parent}",
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "TORCHELASTIC_RUN_ID": "test",
        "GROUP_RANK": "0",
    }
    overrides = ["trainer=ddp_cpu", "trainer.implementation=reference", "recipe.gradient_clip=0.5"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path), *overrides],
            env={**os.environ, **about, "RANK": rank, "LOCAL_RANK": rank},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    for process in processes:
        _, said = process.communicate(timeout=200)
        assert process.returncode == 0, said
    states = [
        [torch.load(tmp_path / f"{name}{rank}.pt", weights_only=True) for name in ("plain", "recorded")]
        for rank in ("0", "1")
    ]
    assert_equal(*states[0])
    (plain, results), (recorded, own_results) = states[1]
    assert results == own_results
    assert all(torch.equal(value, recorded[name]) for name, value in plain.items())


GPU = [
    *(override for override in TINY if override != "trainer=cpu"),
    "trainer=gpu",
    "trainer.precision=bf16-mixed",
    "model.dropout=0.2",
]


@needs_gpu
@pytest.mark.gpu
@pytest.mark.parametrize(
    "overrides",
    [
        ["trainer.implementation=reference"],
        ["trainer.implementation=fused"],
        ["data.normalise=zca", "data.border=reflect"],
    ],
    ids=str,
)
def test_a_gpu_trains_the_same_bits_with_recorded_steps(overrides, config, tmp_path):
    runs = [
        Trained(
            config(*GPU, *overrides, f"trainer.cuda_graphs={graphs}"),
            tmp_path / graphs,
            recorded=False,  # the run itself decides
        )
        for graphs in ("false", "true")
    ]
    assert_equal(*(run.state() for run in runs))
    assert runs[1].classifier.recorded_step._recording is not None


class NoWaiting(Callback):
    """Fails when the host waits for the GPU in some steps after the recording."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == WARM_UP + 2:
            torch.cuda.set_sync_debug_mode("error")

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if batch_idx == WARM_UP + 12:
            torch.cuda.set_sync_debug_mode("default")


@needs_gpu
@pytest.mark.gpu
@pytest.mark.parametrize("normalise", ["mean_std", "pixel_mean", "zca"])
def test_a_recorded_step_does_not_wait_for_the_gpu(normalise, config, tmp_path):
    options = config(*GPU, "epochs=1", f"data.normalise={normalise}")
    try:
        run = Trained(options, tmp_path, recorded=False, callbacks=[NoWaiting()])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert run.classifier.recorded_step._recording is not None
