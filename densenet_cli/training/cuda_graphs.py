"""A network's passes recorded as CUDA graphs: one word to the GPU instead of one for each kernel.

With the papers' batches of 64 or 128 small images, a GPU of today is done with each kernel before
Python has named the next one.
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

WARM_UP = 3  # passes by which libraries choose their kernels


class CudaGraphs:
    """Computes what the network does; on a GPU, by replaying a recording of it.

    The first passes are computed as they come, the next one is recorded: one kind of training passes
    and one of evaluations. Passes of another kind, as of an epoch's last and smaller batch, are
    computed as they come. So are all of a network that cannot be recorded, or whose recording leaves
    too little memory for those passes; the log says so.

    Logits and gradients are valid until the next pass.

    Args:
        network: images (N, C, H, W) -> logits. Apart from random draws on the GPU and updates of its
            buffers in place it must do the same every time.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.is_possible = True
        self._passes: dict[tuple[Any, ...], int] = {}  # of each kind, so far
        self._recorded: dict[bool, _Evaluation] = {}  # by whether for training
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
        make = _Training if trains else _Evaluation
        stream, held = _current_stream(images), _held(images)
        try:
            self._recorded[trains] = make(self.network, images, kind, self._memory)
        except RuntimeError as error:
            _leave_recording(images.device, stream, self._memory)
            reason = first_line(error.__context__ or error)
            self._give_up(f"this network cannot be recorded: {reason}")
        else:
            if _free(images) < _held(images) - held:
                self._give_up("there is too little memory for batches of another size beside them")
        return self._recorded.get(trains)

    def _give_up(self, reason: str) -> None:
        self.is_possible = False
        self._recorded.clear()
        log.warning("computed without CUDA graphs, for %s", reason)


class _Memory:
    """What recordings share, for no two are ever replayed at once.

    Attributes:
        pool: the GPU's memory that they work in.
        passes: replays so far, each of which may overwrite what another one has left there.
    """

    def __init__(self) -> None:
        self.pool = torch.cuda.graph_pool_handle()
        self.passes = 0


def _can_be_recorded(images: Tensor) -> bool:
    return images.device.type == "cuda" and not torch.is_anomaly_enabled()


def _kind(images: Tensor, network: nn.Module) -> tuple[Any, ...]:
    """What must be the same for one pass to be a repetition of another."""
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
        self._numbers = [m._parameters for m in modules] + [m._buffers for m in modules]
        self._places = self._where()
        self._record(network)

    def is_valid(self) -> bool:
        """Whether the network's numbers still lie where the recording looks for them."""
        return self._places == self._where()

    def __call__(self, images: Tensor) -> Tensor:
        """Logits of images."""
        self.memory.passes += 1
        self.images.copy_(images)
        self.forward.replay()
        return self.logits

    def _record(self, network: nn.Module) -> None:
        self.logits, self.forward = _recorded(lambda: network(self.images), self.memory)

    def _where(self) -> list[int]:
        return [
            tensor.data_ptr()
            for numbers in self._numbers
            for tensor in numbers.values()
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
        # Aliases of the parameters, whose own place in autograd's graph may belong to another stream
        # (DDP's), which must not be waited for in a recording.
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
            # As loss.backward() is called outside of autocast, which would else reach operations that
            # the network takes out of it.
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
            raise RuntimeError("another pass has overwritten what this backward pass needs")
        recording.memory.passes += 1
        recording.logits_gradient.copy_(gradient)
        recording.backward.replay()
        return None, *(known if known is None else known.detach() for known in recording.gradients)


def _recorded(compute: Callable[[], Any], memory: _Memory) -> tuple[Any, torch.cuda.CUDAGraph]:
    """What `compute` gives whenever the graph is replayed as which it is recorded."""
    graph, caches = torch.cuda.CUDAGraph(), torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)  # or weights, once cast, would stay what they were
    try:
        # Other threads, as a loader's that pins memory, may use the GPU meanwhile.
        with torch.cuda.graph(graph, memory.pool, capture_error_mode="thread_local"):
            return compute(), graph
    finally:
        torch.set_autocast_cache_enabled(caches)


def _current_stream(images: Tensor) -> Any:
    return torch.cuda.current_stream(images.device)


def _held(images: Tensor) -> int:
    """Bytes of the GPU that this process has for tensors, once what is free is given back."""
    torch.cuda.empty_cache()
    return torch.cuda.memory_reserved(images.device)


def _free(images: Tensor) -> int:
    return torch.cuda.mem_get_info(images.device)[0]


def _leave_recording(device: torch.device, stream: Any, memory: _Memory) -> None:
    """Undo what a recording that failed half-way leaves behind, which differs with torch's versions."""
    torch.cuda.set_stream(stream)
    generator = torch.cuda.default_generators[device.index]
    generator.graphsafe_set_state(generator.clone_state())
    with contextlib.suppress(RuntimeError, AttributeError):  # was done, or is called otherwise
        torch._C._cuda_endAllocateToPool(device.index, memory.pool)
