"""A whole training step recorded as one CUDA graph: the host starts it with a single launch.

With only the network's passes recorded, the host needs 8 us a step for each tensor of parameters.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torchmetrics import MetricCollection

from densenet_cli.training.cuda_graphs import CudaGraphs
from densenet_cli.training.flat_ddp import FlatDDP
from densenet_cli.training.graph_recording import (
    WARM_UP,
    Addresses,
    CannotRecord,
    Recorder,
    can_be_recorded,
    modes,
)
from densenet_cli.training.metrics import States

log = logging.getLogger(__name__)

Batch = Sequence[Tensor]
Network = Callable[[Tensor], Tensor]

SETTINGS = ("momentum", "dampening", "weight_decay", "nesterov", "maximize", "fused")


class RecordedStep:
    """Replays a training step: loss, metrics, backward pass, clipping and SGD.

    As with CudaGraphs, the first WARM_UP steps are not recorded, nor are those with a smaller batch.
    No step is recorded of an optimizer other than SGD in its fused form with `RateTensors`: others
    compute with numbers of the host, which change.

    Args:
        graphs: records the passes of the same network, at other times.
        loss: the mean loss of a batch of the training loader, computed with the given network; it also
            updates the metrics.
        metrics: the sums that `loss` updates, in place.

    Attributes:
        is_possible: False once recording has failed.
        ends_with: further work on the GPU, with which each step ends.
    """

    def __init__(
        self, graphs: CudaGraphs, loss: Callable[[Any, Network], Tensor], metrics: MetricCollection
    ) -> None:
        self.graphs, self.loss, self.metrics = graphs, loss, metrics
        self.is_possible = True
        self.ends_with: list[Callable[[], None]] = []
        self._steps: dict[tuple[Any, ...], int] = {}  # of each kind so far
        self._settings: list[tuple[Any, ...]] | None = None
        self._recording: _Recording | None = None

    def __call__(
        self,
        batch: Batch,
        optimizer: torch.optim.Optimizer,
        clip: Callable[[], None],
        processes: FlatDDP | None = None,
    ) -> Tensor | None:
        """The loss of a step that was replayed; None if it remains to be done.

        Args:
            batch: of the training loader.
            optimizer: of the network. It may be called for this step later: it finds no gradients.
            clip: limits the gradients of the optimizer's parameters.
            processes: averages gradients over several processes; None if there is one.
        """
        device, network = batch[0].device, self.graphs.network
        if not self.is_possible or not can_be_recorded(device):
            return None
        if not self._can_optimize(optimizer):
            return None
        kind = *((one.shape, one.dtype) for one in batch), *modes(device, network)
        if self._recording is None or not self._recording.is_valid():
            self._steps[kind] = self._steps.get(kind, 0) + 1
            if self._steps[kind] <= WARM_UP:
                return None
            self._record(batch, kind, optimizer, clip, processes)
        if self._recording is None or self._recording.kind != kind:
            return None
        return self._recording(batch)

    def _can_optimize(self, optimizer: torch.optim.Optimizer) -> bool:
        settings = [tuple(group.get(name) for name in SETTINGS) for group in optimizer.param_groups]
        if self._settings is None:
            self._settings = settings
            tensors = all(isinstance(group["lr"], Tensor) for group in optimizer.param_groups)
            if not (type(optimizer) is torch.optim.SGD and tensors):
                self._give_up("their optimizer is not the fused SGD")
        elif self._settings != settings:
            self._give_up("the settings of their optimizer change")
        return self.is_possible

    def _record(self, batch: Batch, kind: tuple[Any, ...], *update: Any) -> None:
        recorder = self.graphs.recorder(batch[0].device)
        try:
            self._recording = recorder.attempt(
                self.graphs.network, lambda: _Recording(self, batch, kind, recorder, *update)
            )
        except CannotRecord as reason:
            self._give_up(str(reason))

    def _give_up(self, reason: str) -> None:
        self.is_possible, self._recording = False, None
        log.info("whole steps are not recorded: %s", reason)


class _Recording:
    """One recorded step: a graph; with several processes two, which exchange gradients between them."""

    def __init__(
        self,
        step: RecordedStep,
        batch: Batch,
        kind: tuple[Any, ...],
        recorder: Recorder,
        optimizer: torch.optim.Optimizer,
        clip: Callable[[], None],
        processes: FlatDDP | None,
    ) -> None:
        self.kind, self.recorder = kind, recorder
        self.batch = [one.clone() for one in batch]
        self.network, self.compute_loss = step.graphs.network, step.loss
        self.optimizer, self.clip, self.ends_with = optimizer, clip, step.ends_with
        self.addresses, self.momenta = Addresses(self.network), optimizer.state
        self.metrics = States(step.metrics)
        self.processes = processes
        if processes is None:
            self.loss, self.graph = recorder.record(self._compute)
        else:
            self.loss, self.graph = recorder.record(self._find_gradients)
            _, self.update = recorder.record(self._update)

    def is_valid(self) -> bool:
        """Whether all tensors are still at the addresses that were recorded."""
        return self.addresses.are_valid() and self.optimizer.state is self.momenta

    def __call__(self, batch: Batch) -> Tensor:
        """Replay the step with another batch; its loss, valid until the next step."""
        self.recorder.passes += 1
        for own, given in zip(self.batch, batch, strict=True):
            own.copy_(given)
        self.metrics.take_over()
        self.graph.replay()
        if self.processes is not None:
            self.processes.add_up_gradients()
            self.update.replay()
        return self.loss

    def _compute(self) -> Tensor:
        loss = self._find_gradients()
        self._update()
        return loss

    def _find_gradients(self) -> Tensor:
        # Aliases of the parameters, as in cuda_graphs: the parameters themselves may belong to another
        # stream in autograd's graph.
        leaves = {
            name: one.detach().requires_grad_(one.requires_grad)
            for name, one in self.network.named_parameters()
        }

        def network(images: Tensor) -> Tensor:
            return functional_call(self.network, leaves, (images,))

        loss = self.compute_loss(self.batch, network)
        with torch.autocast(loss.device.type, enabled=False):  # as loss.backward() is called elsewhere
            loss.backward()
        for name, parameter in self.network.named_parameters():
            parameter.grad = leaves[name].grad
        if self.processes is not None:
            self.processes.gather_gradients()
        return loss.detach()

    def _update(self) -> None:
        self.clip()
        self.optimizer.step()
        self.optimizer.zero_grad()
        for work in self.ends_with:
            work()
