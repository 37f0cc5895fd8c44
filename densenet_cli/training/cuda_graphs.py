"""A network's passes recorded as CUDA graphs: one launch instead of one per kernel.

With the papers' batches of 64 or 128 small images, a modern GPU finishes each kernel before Python has
launched the next one. Where all of a training step can be recorded, recorded_step does that, and only
evaluations are replayed here.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call

from densenet_cli.training.graph_recording import (
    WARM_UP,
    Addresses,
    CannotRecord,
    Recorder,
    can_be_recorded,
    modes,
)

log = logging.getLogger(__name__)


class CudaGraphs:
    """Computes the same as a network; on a GPU, by replaying a recorded pass.

    The first WARM_UP passes are computed without a recording, the next one is recorded: one kind of
    pass for training and one for evaluation. Passes of another kind, such as the smaller last batch of
    an epoch, are never recorded. Nor are those of a network that cannot be recorded, or whose recording
    leaves too little memory for other passes; this is logged.

    Logits and gradients are valid until the next pass.

    Args:
        network: images (N, C, H, W) -> logits. It must do the same in every pass, except for random
            numbers on the GPU and in-place updates of its buffers.

    Attributes:
        is_possible: False once recording has failed.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.is_possible = True
        self._passes: dict[tuple[Any, ...], int] = {}  # passes of each kind so far
        self._recorded: dict[bool, _Evaluation] = {}  # by whether gradients are computed
        self._recorder: Recorder | None = None

    def __call__(self, images: Tensor) -> Tensor:
        """Logits of images."""
        if not self.is_possible or not can_be_recorded(images.device):
            return self.network(images)
        trains = torch.is_grad_enabled()
        kind = images.shape, images.stride(), images.dtype, *modes(images.device, self.network)
        recording = self._recorded.get(trains)
        if recording is None or not recording.addresses.are_valid():
            self._passes[kind] = self._passes.get(kind, 0) + 1
            if self._passes[kind] <= WARM_UP:
                return self.network(images)
            recording = self._record(images, kind, trains)
        if recording is None or recording.kind != kind:
            return self.network(images)
        return recording(images)

    def recorder(self, device: torch.device) -> Recorder:
        """What records the passes, and may record other work that takes turns with them."""
        if self._recorder is None:
            self._recorder = Recorder(device)
        return self._recorder

    def _record(self, images: Tensor, kind: tuple[Any, ...], trains: bool) -> _Evaluation | None:
        recording_class = _Training if trains else _Evaluation
        recorder = self.recorder(images.device)
        try:
            self._recorded[trains] = recorder.attempt(
                self.network, lambda: recording_class(self.network, images, kind, recorder)
            )
        except CannotRecord as reason:
            self.is_possible = False
            self._recorded.clear()
            log.warning("training without CUDA graphs: %s", reason)
        return self._recorded.get(trains)


class _Evaluation:
    """A recorded forward pass."""

    def __init__(
        self, network: nn.Module, images: Tensor, kind: tuple[Any, ...], recorder: Recorder
    ) -> None:
        self.kind, self.recorder = kind, recorder
        self.images = images.clone()
        self.addresses = Addresses(network)
        self._record(network)

    def __call__(self, images: Tensor) -> Tensor:
        """Logits of images."""
        self.recorder.passes += 1
        self.images.copy_(images)
        self.forward.replay()
        return self.logits

    def _record(self, network: nn.Module) -> None:
        self.logits, self.forward = self.recorder.record(lambda: network(self.images))


class _Training(_Evaluation):
    """A recorded forward and backward pass."""

    def __call__(self, images: Tensor) -> Tensor:
        """Logits of images, with a gradient."""
        self.images.copy_(images)
        return _Replay.apply(self, *self.trained)

    def _record(self, network: nn.Module) -> None:
        self.trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        # Aliases of the parameters: in autograd's graph the parameters themselves may belong to another
        # stream (DDP's), and a recording must not wait for another stream.
        leaves = {
            name: parameter.detach().requires_grad_(parameter.requires_grad)
            for name, parameter in network.named_parameters()
        }
        inputs = [leaf for leaf in leaves.values() if leaf.requires_grad]
        logits, self.forward = self.recorder.record(
            lambda: functional_call(network, leaves, (self.images,))
        )
        self.logits, self.logits_gradient = logits.detach(), torch.zeros_like(logits)

        def backward() -> Sequence[Tensor | None]:
            # Without autocast, as loss.backward() is called: autocast would also change operations that
            # the network excludes from it.
            with torch.autocast(self.images.device.type, enabled=False):
                return torch.autograd.grad(logits, inputs, self.logits_gradient, allow_unused=True)

        self.gradients, self.backward = self.recorder.record(backward)


class _Replay(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, recording: _Training, *_: Tensor) -> Tensor:
        recording.recorder.passes += 1
        ctx.recording, ctx.number = recording, recording.recorder.passes
        recording.forward.replay()
        return recording.logits.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        recording = ctx.recording
        if ctx.number != recording.recorder.passes:
            raise RuntimeError("another pass has overwritten the results that this backward pass needs")
        recording.recorder.passes += 1
        recording.logits_gradient.copy_(gradient)
        recording.backward.replay()
        return None, *(None if one is None else one.detach() for one in recording.gradients)
