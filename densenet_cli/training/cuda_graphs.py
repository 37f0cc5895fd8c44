"""A network's passes recorded as CUDA graphs: one launch instead of one per kernel.

With the papers' batches of 64 or 128 small images, a modern GPU finishes each kernel before Python has
launched the next one.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call

from densenet_cli.plain_text import first_line

log = logging.getLogger(__name__)

WARM_UP = 3  # passes before the recording, in which libraries choose their kernels


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
        self._memory: _Memory | None = None

    def __call__(self, images: Tensor) -> Tensor:
        """Logits of images."""
        if not self.is_possible or not _can_be_recorded(images):
            return self.network(images)
        kind, trains = _kind(images, self.network), torch.is_grad_enabled()
        recording = self._recorded.get(trains)
        if recording is None or not recording.is_valid():
            self._passes[kind] = self._passes.get(kind, 0) + 1
            if self._passes[kind] <= WARM_UP:
                return self.network(images)
            recording = self._record(images, kind, trains)
        if recording is None or recording.kind != kind:
            return self.network(images)
        return recording(images)

    def _record(self, images: Tensor, kind: tuple[Any, ...], trains: bool) -> _Evaluation | None:
        self._memory = self._memory or _Memory()
        recording_class = _Training if trains else _Evaluation
        stream, held = _current_stream(images), _held(images)
        try:
            self._recorded[trains] = recording_class(self.network, images, kind, self._memory)
        except RuntimeError as error:
            _leave_recording(images.device, stream, self._memory)
            reason = first_line(error.__context__ or error)
            self._give_up(f"this network cannot be recorded: {reason}")
        else:
            if _free(images) < _held(images) - held:
                self._give_up("they leave too little memory for batches of another size")
        return self._recorded.get(trains)

    def _give_up(self, reason: str) -> None:
        self.is_possible = False
        self._recorded.clear()
        log.warning("training without CUDA graphs: %s", reason)


class _Memory:
    """GPU memory that all recordings share, since only one is replayed at a time.

    Attributes:
        pool: the memory pool.
        passes: number of replays so far; each may overwrite the results of the one before.
    """

    def __init__(self) -> None:
        self.pool = torch.cuda.graph_pool_handle()
        self.passes = 0


def _can_be_recorded(images: Tensor) -> bool:
    return images.device.type == "cuda" and not torch.is_anomaly_enabled()


def _kind(images: Tensor, network: nn.Module) -> tuple[Any, ...]:
    """Properties that two passes must share for one recording to serve both."""
    autocast = torch.is_autocast_enabled("cuda") and torch.get_autocast_dtype("cuda")
    modes = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), network.training
    return images.shape, images.stride(), images.dtype, autocast, *modes


class _Evaluation:
    """A recorded forward pass."""

    def __init__(
        self, network: nn.Module, images: Tensor, kind: tuple[Any, ...], memory: _Memory
    ) -> None:
        self.kind, self.memory = kind, memory
        self.images = images.clone()
        modules = list(network.modules())
        # These dictionaries are private to torch, but parameters() would take a millisecond per pass.
        self._tensors = [m._parameters for m in modules] + [m._buffers for m in modules]
        self._recorded_addresses = self._addresses()
        self._record(network)

    def is_valid(self) -> bool:
        """Whether the parameters and buffers are still at the addresses that were recorded."""
        return self._recorded_addresses == self._addresses()

    def __call__(self, images: Tensor) -> Tensor:
        """Logits of images."""
        self.memory.passes += 1
        self.images.copy_(images)
        self.forward.replay()
        return self.logits

    def _record(self, network: nn.Module) -> None:
        self.logits, self.forward = _recorded(lambda: network(self.images), self.memory)

    def _addresses(self) -> list[int]:
        return [
            tensor.data_ptr()
            for tensors in self._tensors
            for tensor in tensors.values()
            if tensor is not None
        ]


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
        logits, self.forward = _recorded(
            lambda: functional_call(network, leaves, (self.images,)), self.memory
        )
        self.logits, self.logits_gradient = logits.detach(), torch.zeros_like(logits)

        def backward() -> Sequence[Tensor | None]:
            # Without autocast, as loss.backward() is called: autocast would also change operations that
            # the network excludes from it.
            with torch.autocast(self.images.device.type, enabled=False):
                return torch.autograd.grad(logits, inputs, self.logits_gradient, allow_unused=True)

        self.gradients, self.backward = _recorded(backward, self.memory)


class _Replay(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, recording: _Training, *_: Tensor) -> Tensor:
        recording.memory.passes += 1
        ctx.recording, ctx.number = recording, recording.memory.passes
        recording.forward.replay()
        return recording.logits.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        recording = ctx.recording
        if ctx.number != recording.memory.passes:
            raise RuntimeError("another pass has overwritten the results that this backward pass needs")
        recording.memory.passes += 1
        recording.logits_gradient.copy_(gradient)
        recording.backward.replay()
        return None, *(None if one is None else one.detach() for one in recording.gradients)


def _recorded(compute: Callable[[], Any], memory: _Memory) -> tuple[Any, torch.cuda.CUDAGraph]:
    """The result of `compute`, and the graph that computes it again in the same memory."""
    graph, caches = torch.cuda.CUDAGraph(), torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)  # else later replays would use weights cast now
    try:
        # thread_local: other threads may use the GPU meanwhile, such as a loader that pins memory.
        with torch.cuda.graph(graph, memory.pool, capture_error_mode="thread_local"):
            return compute(), graph
    finally:
        torch.set_autocast_cache_enabled(caches)


def _current_stream(images: Tensor) -> Any:
    return torch.cuda.current_stream(images.device)


def _held(images: Tensor) -> int:
    """Bytes of GPU memory that this process reserves after it has freed what it does not use."""
    torch.cuda.empty_cache()
    return torch.cuda.memory_reserved(images.device)


def _free(images: Tensor) -> int:
    return torch.cuda.mem_get_info(images.device)[0]


def _leave_recording(device: torch.device, stream: Any, memory: _Memory) -> None:
    """Restore stream, random numbers and allocator after a recording has failed.

    torch has no public function that ends the allocation from a pool. Newer versions end it themselves.
    """
    torch.cuda.set_stream(stream)
    generator = torch.cuda.default_generators[device.index]
    generator.graphsafe_set_state(generator.clone_state())
    with contextlib.suppress(RuntimeError):  # torch has ended it
        torch._C._cuda_endAllocateToPool(device.index, memory.pool)
