"""A contestant at work: its training steps, evaluations and memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from contestants import Contestant, build
from networks import TINY, Network
from side_by_side import timed
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MetricCollection

from densenet_cli.models.cost import count_parameters
from densenet_cli.record.environment import peak_memory_bytes, reset_peak_memory
from densenet_cli.training import allocator
from densenet_cli.training.cuda_graphs import CudaGraphs
from densenet_cli.training.graph_recording import WARM_UP
from densenet_cli.training.recorded_step import RecordedStep

LEARNING_RATE = 0.01  # low, so that random labels do not make the loss overflow


class Trainee:
    """A contestant's network, its optimizer and one random batch, the same for all contestants.

    All use the fused SGD and keep freed memory, as densenet-run does, so that only the networks differ.
    """

    def __init__(self, contestant: Contestant, network: Network, device: str = "cpu") -> None:
        allocator.keep_freed_memory()
        self.contestant, self.device = contestant, device
        self.module = build(contestant, network).to(device)
        layout = torch.channels_last if contestant.channels_last else torch.contiguous_format
        self.module.to(memory_format=layout)
        self.optimizer = torch.optim.SGD(
            self.module.parameters(),
            # A recorded step reads the rate on the device.
            torch.tensor(LEARNING_RATE, device=device) if contestant.replayed else LEARNING_RATE,
            momentum=0.9,
            nesterov=True,
            weight_decay=1e-4,
            fused=True,
        )
        self.network = self.module
        if contestant.compiled:
            self.network = torch.compile(self.module, mode=contestant.compiled)
        self.recorded_step: RecordedStep | None = None
        if contestant.replayed:
            self.network = CudaGraphs(self.module)
            self.recorded_step = RecordedStep(self.network, self._loss, MetricCollection({}))
        size = network.image_size
        draws = torch.Generator().manual_seed(0)
        count = max(network.batch, network.evaluation_batch)
        images = torch.randn(count, 3, size, size, generator=draws).to(device, memory_format=layout)
        classes = network.make.keywords["num_classes"]
        labels = torch.randint(classes, (network.batch,), generator=draws)
        self.images, self.labels = images[: network.batch], labels.to(device)
        self.evaluation_images = images[: network.evaluation_batch]

    def step(self) -> Tensor:
        """Forward, cross-entropy, backward, SGD with Nesterov momentum. Returns the loss."""
        self.module.train()
        if self.recorded_step is not None:
            batch = self.images, self.labels
            loss = self.recorded_step(batch, self.optimizer, clip=lambda: None)
            if loss is not None:
                return loss
        loss = self.forward_and_backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss

    def forward_and_backward(self) -> Tensor:
        """Forward, cross-entropy, backward. Returns the loss."""
        self.module.train()
        loss = self._loss((self.images, self.labels), self.network)
        loss.backward()
        return loss.detach()

    def evaluate(self) -> Tensor:
        """Logits in evaluation mode, without gradients."""
        self.module.eval()
        with torch.inference_mode():
            return self._logits(self.evaluation_images, self.network)

    def _loss(self, batch: Sequence[Tensor], network: Callable[[Tensor], Tensor]) -> Tensor:
        images, labels = batch
        return F.cross_entropy(self._logits(images, network).float(), labels)

    def _logits(self, images: Tensor, network: Callable[[Tensor], Tensor]) -> Tensor:
        enabled = self.contestant.is_bfloat16(self.device)
        with torch.autocast(self.device, torch.bfloat16, enabled=enabled):
            return network(images)

    def timed_step(self) -> dict[str, float]:
        """Seconds of a training step; see `timed`."""
        return timed(self.step)

    def timed_evaluation(self) -> dict[str, float]:
        """Seconds of an evaluation; see `timed`."""
        return timed(self.evaluate)

    def prepare(self) -> dict[str, Any]:
        """Step until everything is compiled and recorded.

        Returns:
            first_step_s, which includes compiling; loss, that of the first step; memory, the bytes of
            the GPU that a step needs at its peak beyond weights and momentum (None on the CPU, and for
            a recorded step, which keeps its memory).

        Raises:
            RuntimeError: the network cannot be recorded.
        """
        losses: list[Tensor] = []
        first = timed(lambda: losses.append(self.step().cpu()))
        for _ in range(WARM_UP + 2):
            self.step()
        if self.recorded_step is not None and not self.recorded_step.is_possible:
            raise RuntimeError("cannot be recorded")
        memory = None
        if self.device == "cuda" and not self.contestant.replayed:
            resting = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            self.step()
            memory = torch.cuda.max_memory_allocated() - resting
        return {"first_step_s": first["seconds"], "loss": losses[0].item(), "memory": memory}

    def timed_steps(self, number: int = 10) -> dict[str, float]:
        """Of one step, by steps one after another: what `timed` returns, and host_seconds.

        host_seconds passed until this process had asked the device for the step; the rest is waiting.
        """
        self._wait()
        asked = 0.0

        def work() -> None:
            nonlocal asked
            began = time.perf_counter()
            for _ in range(number):
                self.step()
            asked = time.perf_counter() - began
            self._wait()

        taken = timed(work)
        return {name: amount / number for name, amount in {**taken, "host_seconds": asked}.items()}

    def _wait(self) -> None:
        """Wait until the device has done what it was asked for."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def warm_up(self) -> dict[str, Any]:
        """Three steps: the time of the first one, and the memory that they need.

        Returns:
            parameters, first_loss, first_step_s, seconds (of the faster one of the others), and in
            bytes: process, its peak memory; step, how much the peak rose in these steps;
            activations, the same without gradients and momentum (float32, 8 bytes per parameter).
            The last two are None for a compiled contestant, whose first step runs a compiler.
        """
        if not self.contestant.compiled:
            Trainee(self.contestant, TINY).step()  # torch loads and builds much at its first step
        reset_peak_memory()
        before = peak_memory_bytes()
        losses: list[Tensor] = []
        first, *others = (timed(lambda: losses.append(self.step())) for _ in range(3))
        process = peak_memory_bytes()
        parameters = count_parameters(self.module)
        step = None if self.contestant.compiled else process - before
        return {
            "parameters": parameters,
            "first_loss": losses[0].item(),
            "first_step_s": first["seconds"],
            "seconds": min(turn["seconds"] for turn in others),
            "process": process,
            "step": step,
            "activations": None if step is None else step - 8 * parameters,
        }

    def compile(self) -> float:
        """Seconds of the first forward and backward pass, which are mostly spent on compiling."""
        seconds = timed(self.forward_and_backward)["seconds"]
        self.optimizer.zero_grad()
        return seconds
