"""Two processes over gloo: flat gradients give the same bits as torch's DistributedDataParallel."""

import os
import socket
import subprocess
import sys

import pytest
import torch

pytestmark = pytest.mark.slow

PROGRAM = '''
import collections
import contextlib
import sys
from unittest import mock

import lightning.pytorch as L
import torch
from lightning.pytorch.plugins.environments import TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from densenet_cli.training.flat_ddp import FlatDDP
from densenet_cli.training.interruption import stop_asking_for_sigterm

CASES = {  # arguments of the trainer, whether all parameters are used, the number type
    "plain": ({}, True, torch.float32),
    "accumulated": ({"accumulate_grad_batches": 3}, True, torch.float32),
    "clipped": ({"gradient_clip_val": 0.1}, True, torch.float32),
    "unused": ({}, False, torch.float32),
    "two types": ({}, True, torch.float64),
}


class Classifier(L.LightningModule):
    def __init__(self, is_whole, kind):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4))
        self.layers.to(memory_format=torch.channels_last)
        self.of_one, self.of_none = nn.Linear(4, 4), nn.Linear(4, 4)
        self.last = nn.Linear(4, 4).to(kind)
        self.is_whole = is_whole

    def training_step(self, batch, index):
        images, labels = batch
        logits = self.layers(images)
        if self.is_whole or (self.global_rank and index % 2):
            logits = self.of_one(logits)
        if self.is_whole:
            logits = self.of_none(logits)
        return nn.functional.cross_entropy(self.last(logits.to(self.last.weight.dtype)), labels)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)


def trained(strategy, arguments, is_whole, kind):
    rank = TorchElasticEnvironment().global_rank()
    torch.manual_seed(rank)  # other weights in each process until training starts
    module = Classifier(is_whole, kind)
    chance = torch.Generator().manual_seed(10 + rank)
    data = TensorDataset(
        torch.randn(28, 3, 8, 8, generator=chance), torch.randint(4, (28,), generator=chance))
    trainer = L.Trainer(
        accelerator="cpu", devices=2, strategy=strategy, plugins=[TorchElasticEnvironment()],
        logger=False, max_epochs=2, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, **arguments)
    stop_asking_for_sigterm(trainer)
    trainer.fit(module, DataLoader(data, batch_size=4))
    return module.state_dict(), rank


def counted(batches):
    """The collective operations of a run with so many batches."""
    names = []

    def count(name, function):
        def counting(*arguments, **options):
            names.append(name)
            return function(*arguments, **options)

        return mock.patch.object(torch.distributed, name, counting)

    with contextlib.ExitStack() as patches:
        for name in ("all_reduce", "broadcast", "barrier", "all_gather", "all_gather_object"):
            patches.enter_context(count(name, getattr(torch.distributed, name)))
        trained(FlatDDP(), {"limit_train_batches": batches}, True, torch.float32)
    return collections.Counter(names)


found = {}
for name, (arguments, is_whole, kind) in CASES.items():
    theirs, _ = trained(DDPStrategy(find_unused_parameters=not is_whole), arguments, is_whole, kind)
    ours, rank = trained(FlatDDP(), arguments, is_whole, kind)
    found[name] = {"theirs": theirs, "ours": ours}
found["by four batches"] = dict(counted(7) - counted(3))
torch.save(found, f"{sys.argv[1]}/{rank}.pt")
'''


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each of the two processes has computed."""
    folder = tmp_path_factory.mktemp("flat")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    about = {
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    about |= {"TORCHELASTIC_RUN_ID": "test", "GROUP_RANK": "0"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(folder)],
            env={**os.environ, **about, "RANK": rank, "LOCAL_RANK": rank},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    for process in started:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize("case", ["plain", "accumulated", "clipped", "unused", "two types"])
def test_weights_have_the_bits_of_ddp(case, found):
    for rank in found:
        for name, value in rank[case]["theirs"].items():
            own = rank[case]["ours"][name]
            if "running" not in name:  # DDP sends the statistics of the first process to the others
                assert torch.equal(own, value), (case, name)
                assert torch.equal(own, found[0][case]["ours"][name]), (case, name)


def test_a_step_has_one_collective_operation(found):
    assert found[0]["by four batches"] == {"all_reduce": 2 * 4}  # in two epochs
