"""How long a training step occupies the processor beside a GPU, measured without a GPU.

Run by `python tests/benchmarks/bench_host.py`. It trains as densenet-run does, on the embedded digits,
with Lightning's loop and all callbacks; only the replays of recorded work do nothing. What is left is
the host's work: a GPU that needs less time for a step waits for it. The calls of CUDA are missing:
about 5 us for each launch that is not recorded. Processor time of the training thread: of the fastest
tenth of the steps, which other work on the machine has hardly disturbed, and the median.

On two cores of a Xeon in ms, 10 % more or less from run to run:

    tensors of parameters            299 (DenseNet-BC-100)   29 (depth 10)
    the network's passes recorded    4.1                     1.8
    whole steps recorded             0.9                     0.6
"""

from __future__ import annotations

import contextlib
import logging
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from lightning.pytorch import Callback

from densenet_cli.config import resolvers
from densenet_cli.config.compose import compose, composing, resolved
from densenet_cli.data import resident
from densenet_cli.run.assemble import record_steps
from densenet_cli.run.parts import Run
from densenet_cli.run.train import train
from densenet_cli.training import cuda_graphs, graph_recording, rate_tensors, recorded_step
from densenet_cli.training.cuda_graphs import CudaGraphs
from densenet_cli.training.graph_recording import WARM_UP, Recorder
from densenet_cli.training.interruption import Interruption

DEPTHS = (100, 10)  # DenseNet-BC: 299 and 29 tensors of parameters
EPOCHS = 8
OPTIONS = [
    "experiment=quickstart",
    "model=densenet_bc",
    "model.growth_rate=2",  # few channels: only the number of tensors counts
    f"epochs={EPOCHS}",
    "trainer=cpu",
    "trainer.implementation=reference",
    "trainer.precision=32-true",
    "next_steps=[]",
]


class NoGraph:
    """A graph whose replay does nothing."""

    def replay(self) -> None:
        """Nothing."""


@contextlib.contextmanager
def stubbed() -> Iterator[None]:
    """Within this context, work is recorded without a GPU, and its replays do nothing."""
    recording = {
        "_current_stream": lambda device: None,
        "_held": lambda device: 0,
        "_free": lambda device: 1,
    }
    with (
        mock.patch.multiple(graph_recording, **recording),
        mock.patch.object(Recorder, "record", lambda self, compute: (compute(), NoGraph())),
        mock.patch.object(cuda_graphs, "can_be_recorded", return_value=True),
        mock.patch.object(recorded_step, "can_be_recorded", return_value=True),
        mock.patch.object(rate_tensors, "are_needed", return_value=True),
        mock.patch.object(resident, "fit", return_value=True),
        mock.patch.multiple(torch.cuda, graph_pool_handle=object, Stream=lambda device: None),
    ):
        yield


class HostTime(Callback):
    """The processor seconds of each replayed step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._before = 0.0

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int
    ) -> None:
        """Note the time since the step before; the first steps and the last one do not count."""
        now = time.thread_time()
        if index > WARM_UP and not trainer.is_last_batch:
            self.seconds.append(now - self._before)
        self._before = now


def measure(depth: int, whole: bool) -> tuple[int, HostTime]:
    """The number of parameter tensors of a DenseNet-BC, and the times of its steps.

    Args:
        depth: of the network.
        whole: whether whole steps are recorded, or the network's passes only.
    """
    with composing():
        config = resolved(compose([*OPTIONS, f"model.depth={depth}"]))
    timer, runs = HostTime(), []

    def on_ready(run: Run) -> None:
        run.classifier.graphs = CudaGraphs(run.classifier.network)
        if whole:
            record_steps(run.classifier, run.data, run.classifier.graphs)
        runs.append(run)

    with tempfile.TemporaryDirectory() as folder:
        train(
            config,
            Path(folder),
            Interruption(),
            on_ready=on_ready,
            on_epoch=lambda progress: None,
            callbacks=[timer],
        )
    return len(list(runs[0].classifier.network.parameters())), timer


def main() -> None:
    """Measure each depth."""
    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    resolvers.register()
    with stubbed():
        for depth in DEPTHS:
            for whole, name in ((False, "passes recorded"), (True, "whole steps recorded")):
                tensors, timer = measure(depth, whole)
                tenths = [1e3 * one for one in statistics.quantiles(timer.seconds, n=10)]
                title = f"DenseNet-BC-{depth}, {tensors} tensors, {name}"
                print(f"{title:55} {tenths[0]:.2f} ms a step, median {tenths[4]:.2f}")


if __name__ == "__main__":
    main()
