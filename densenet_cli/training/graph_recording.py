"""Recording of work on a GPU as CUDA graphs, and what makes a recording fail."""

from __future__ import annotations

import contextlib
import pickle
import random
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from densenet_cli.plain_text import first_line
from densenet_cli.training import host_choices

Made = TypeVar("Made")

WARM_UP = 3  # times that work is done before it is recorded, in which libraries choose their kernels


class CannotRecord(Exception):
    """A recording has failed, or would be of no use; the text says why."""


class Recorder:
    """Records work on one device. All its recordings share memory: only one is replayed at a time.

    Args:
        device: of all the work.

    Attributes:
        passes: number of replays so far; each may overwrite the results of the one before.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.passes = 0
        self._pool = torch.cuda.graph_pool_handle()
        # torch would take the same stream for all devices, that of the first recording's device.
        self._stream = torch.cuda.Stream(device)

    def attempt(self, network: nn.Module, make: Callable[[], Made]) -> Made:
        """What `make` returns, which calls `record` with work of a network.

        Raises:
            CannotRecord: also if it has drawn random numbers on the CPU, which replays would repeat;
                their generators are then as before.
        """
        stream, held = _current_stream(self.device), _held(self.device)
        numbers = _cpu_numbers(network)
        addresses = Addresses(network)
        try:
            made = make()
        except RuntimeError as error:
            self._leave(stream)
            addresses.restore()
            reason = first_line(error.__context__ or error)
            raise CannotRecord(f"this network cannot be recorded: {reason}") from error
        if not addresses.are_valid():
            addresses.restore()
            raise CannotRecord("this network replaces its buffers, which it must update in place")
        if pickle.dumps(numbers) != pickle.dumps(_cpu_numbers(network)):
            _set_cpu_numbers(numbers, network)
            raise CannotRecord("this network draws random numbers on the CPU, which cannot be recorded")
        if _free(self.device) < _held(self.device) - held:
            raise CannotRecord("they leave too little memory for batches of another size")
        return made

    def record(self, compute: Callable[[], Made]) -> tuple[Made, torch.cuda.CUDAGraph]:
        """The result of `compute`, and the graph that computes it again in the same memory."""
        graph, caches = torch.cuda.CUDAGraph(), torch.is_autocast_cache_enabled()
        torch.set_autocast_cache_enabled(False)  # else later replays would use weights cast now
        try:
            # thread_local: other threads may use the GPU meanwhile, as a loader that pins memory does.
            with torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"):
                return compute(), graph
        finally:
            torch.set_autocast_cache_enabled(caches)

    def _leave(self, stream: Any) -> None:
        """Restore stream, random numbers and allocator after a recording has failed.

        torch has no public function that ends the allocation from a pool. Newer versions end it
        themselves.
        """
        torch.cuda.set_stream(stream)
        generator = torch.cuda.default_generators[self.device.index]
        generator.graphsafe_set_state(generator.clone_state())
        with contextlib.suppress(RuntimeError):  # torch has ended it
            torch._C._cuda_endAllocateToPool(self.device.index, self._pool)


def can_be_recorded(device: torch.device) -> bool:
    """Whether work on this device can be recorded now."""
    return device.type == "cuda" and not torch.is_anomaly_enabled()


def modes(device: torch.device, network: nn.Module) -> tuple[Any, ...]:
    """The modes of torch and of a network that a pass must share with a recording to be replayed."""
    autocast = torch.is_autocast_enabled(device.type) and torch.get_autocast_dtype(device.type)
    return autocast, torch.is_grad_enabled(), torch.is_inference_mode_enabled(), network.training


class Addresses:
    """Where the parameters and buffers of a network are, which a recording must find again.

    Args:
        network: of which every tensor counts.
    """

    def __init__(self, network: nn.Module) -> None:
        # These dictionaries are private to torch, but parameters() would take a millisecond per pass.
        both: list[dict[str, Any]] = [
            own for one in network.modules() for own in (one._parameters, one._buffers)
        ]
        self._tensors = [own for own in both if own]
        self._before = [dict(own) for own in self._tensors]
        self._recorded = self._now()

    def are_valid(self) -> bool:
        """Whether all tensors are where they were when this object was made."""
        return self._recorded == self._now()

    def restore(self) -> None:
        """Undo that tensors were replaced by others, which a recording has not computed."""
        for own, before in zip(self._tensors, self._before, strict=True):
            own.update(before)

    def _now(self) -> list[int]:
        return [
            tensor.data_ptr()
            for tensors in self._tensors
            for tensor in tensors.values()
            if tensor is not None
        ]


def _cpu_numbers(network: nn.Module) -> tuple[Any, ...]:
    """The states of all generators of random numbers on the CPU: the global ones and the network's."""
    own = [generator.getstate() for generator in host_choices.generators(network)]
    return torch.get_rng_state().numpy(), random.getstate(), np.random.get_state(), *own


def _set_cpu_numbers(states: tuple[Any, ...], network: nn.Module) -> None:
    torch.set_rng_state(torch.from_numpy(states[0]))
    random.setstate(states[1])
    np.random.set_state(states[2])
    for generator, state in zip(host_choices.generators(network), states[3:], strict=True):
        generator.setstate(state)


def _current_stream(device: torch.device) -> Any:
    return torch.cuda.current_stream(device)


def _held(device: torch.device) -> int:
    """Bytes of GPU memory that this process reserves after it has freed what it does not use."""
    torch.cuda.empty_cache()
    return torch.cuda.memory_reserved(device)


def _free(device: torch.device) -> int:
    """Bytes of GPU memory that this process can still reserve, on a shared GPU of its share."""
    free, total = torch.cuda.mem_get_info(device)
    share = getattr(torch.cuda, "get_per_process_memory_fraction", lambda device: 1.0)  # not in 2.6
    return min(free, int(share(device) * total) - torch.cuda.memory_reserved(device))
