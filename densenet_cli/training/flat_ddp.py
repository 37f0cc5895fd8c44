"""Several processes train one network: equal weights at the start, one average of gradients a step."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor


class FlatDDP(DDPStrategy):
    """Data-parallel training without torch's DistributedDataParallel around the network.

    Parameters and buffers are sent once, from the first process to all. After each backward pass all
    gradients are copied into one flat buffer, which is averaged over the processes in one operation;
    `.grad` of each parameter is then a view of it. So the passes themselves contain no communication,
    and can be recorded as CUDA graphs. Buffers stay those of each process, such as the statistics of
    batch norm.

    A parameter that has no gradient in any process keeps None, as in a run of one process, and the
    optimizer then leaves it alone. Only a process that lacks a gradient reads from its device to learn
    whether another one has it.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._buffers: list[_FlatBuffer] = []
        self._is_accumulating = False

    def configure_ddp(self) -> None:
        """Give all processes the network of the first one. No wrapper is put around it."""
        assert self.model is not None
        for tensors in _by_type([*self.model.parameters(), *self.model.buffers()]):
            _send(tensors)
        trained = [one for one in self.model.parameters() if one.requires_grad]
        self._buffers = [_FlatBuffer(parameters) for parameters in _by_type(trained)]

    @contextlib.contextmanager
    def block_backward_sync(self) -> Iterator[None]:
        """Within, gradients of several batches are added up in each process."""
        self._is_accumulating = True
        try:
            yield
        finally:
            self._is_accumulating = False

    def post_backward(self, closure_loss: Tensor) -> None:
        """Average the gradients over all processes, unless a recorded step was replayed, which does."""
        if not self._is_accumulating and not getattr(self.lightning_module, "is_replayed", False):
            for buffer in self._buffers:
                buffer.average(self.world_size)

    def gather_gradients(self) -> None:
        """Copy all gradients into the flat buffers, of which they become views.

        Raises:
            RuntimeError: if a parameter has none.
        """
        for buffer in self._buffers:
            if buffer.gather(self.world_size):
                raise RuntimeError("a parameter has no gradient")
            buffer.hand_out()

    def add_up_gradients(self) -> None:
        """Replace what each process has gathered, its share of the averages, by the averages."""
        for buffer in self._buffers:
            torch.distributed.all_reduce(buffer.flat)


class _FlatBuffer:
    """Space for the gradients of parameters of one number type, and for whether each has one."""

    def __init__(self, parameters: list[Tensor]) -> None:
        self.parameters = parameters
        sizes = [one.numel() for one in parameters]
        self.flat = parameters[0].new_zeros(sum(sizes) + len(sizes), requires_grad=False)
        *parts, self.exists = self.flat.split([*sizes, len(sizes)])
        self.ones = torch.ones_like(self.exists)
        self.gradients = [  # in the memory order of the parameters, such as channels_last
            part.as_strided(one.size(), one.stride())
            for part, one in zip(parts, parameters, strict=True)
        ]

    def average(self, processes: int) -> None:
        """Replace the gradients by their averages over the processes; None counts as zero."""
        missing = self.gather(processes)
        torch.distributed.all_reduce(self.flat)
        self.hand_out(self.exists.tolist() if missing else None)

    @torch.no_grad()
    def gather(self, processes: int) -> list[int]:
        """Copy the gradients, divided by the processes; returns the numbers of those that are None."""
        found = [one.grad for one in self.parameters]
        missing = [number for number, one in enumerate(found) if one is None]
        own = [(view, one) for view, one in zip(self.gradients, found, strict=True) if one is not None]
        views, gradients = zip(*own, (self.exists, self.ones), strict=True)
        torch._foreach_copy_(views, gradients)
        if missing:
            torch._foreach_zero_([self.gradients[number] for number in missing])
            self.exists[missing] = 0
        self.flat.div_(processes)
        return missing

    def hand_out(self, exists: list[float] | None = None) -> None:
        """Let the gradients be views of this buffer: all, or those that exist."""
        for number, (one, view) in enumerate(zip(self.parameters, self.gradients, strict=True)):
            if exists is None or exists[number]:
                one.grad = view


def _by_type(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """Tensors grouped by their number type, in a stable order."""
    kinds = dict.fromkeys(one.dtype for one in tensors)
    return [[one for one in tensors if one.dtype == kind] for kind in kinds]


@torch.no_grad()
def _send(tensors: list[Tensor]) -> None:
    """Replace tensors of one type by those of the first process."""
    flat = torch.cat([one.reshape(-1) for one in tensors])
    torch.distributed.broadcast(flat, src=0)
    parts = flat.split([one.numel() for one in tensors])
    for one, part in zip(tensors, parts, strict=True):
        one.copy_(part.view(one.size()))
