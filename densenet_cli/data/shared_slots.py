"""Memory that a process shares with its forked loader workers, which write images of batches into it.

It is mapped once: memory made anew for each batch costs a page fault for every 4 KiB, on both sides.
It is anonymous: the size of /dev/shm does not limit it, and it ends with the processes.
"""

from __future__ import annotations

import math
import mmap
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Written:
    """Images in a slot: its number, and their shape and dtype."""

    slot: int
    shape: torch.Size
    dtype: torch.dtype


class SharedSlots:
    """Slots of equal size, each for the images of one batch.

    The process that made them claims a slot for each batch. It becomes free again when the last tensor
    that shows its images is gone.

    Args:
        slots: their number.
        size: bytes of each.

    Raises:
        OSError: if the system has no such memory.
    """

    def __init__(self, slots: int, size: int) -> None:
        self.slots, self.size = slots, size
        self._memory = mmap.mmap(-1, slots * size)
        self._shown: set[int] = set()  # slots with tensors that show their images
        self._free: deque[int] = deque(range(slots))
        _MADE[id(self)] = self

    def __reduce__(self) -> tuple:
        return _made, (id(self),)  # itself, in each process that has this memory

    def begin(self) -> None:
        """Free the slots of batches that never came, before the first claim of an iteration."""
        self._free = deque(slot for slot in range(self.slots) if slot not in self._shown)

    def claim(self) -> int | None:
        """The slot that was used last and is free, so that few are ever used; None if none is free."""
        return self._free.pop() if self._free else None

    def free(self, slot: int) -> None:
        """Let the slot of a batch be claimed again."""
        self._shown.discard(slot)
        self._free.append(slot)

    def empty(self, slot: int, shape: Sequence[int], *, dtype: torch.dtype) -> Tensor:
        """A tensor in a slot, whose values are arbitrary; outside, if it is larger than the slot."""
        if math.prod(shape) * dtype.itemsize > self.size:
            return torch.empty(shape, dtype=dtype)
        return self._tensor(slot, torch.Size(shape), dtype)

    def write(self, slot: int, images: Tensor) -> Written | None:
        """Copy contiguous images into a slot if they are not there; None if they are larger than it."""
        if images.nbytes > self.size:
            return None
        place = self._tensor(slot, images.shape, images.dtype)
        if images.data_ptr() != place.data_ptr():
            place.copy_(images)
        return Written(slot, images.shape, images.dtype)

    def read(self, written: Written) -> Tensor:
        """The images in a slot, not copied."""
        self._shown.add(written.slot)
        return self._tensor(written.slot, written.shape, written.dtype, is_shown=True)

    def rest(self) -> None:
        """Give the memory back to the system until the next batch, if no images are shown."""
        if not self._shown and hasattr(mmap, "MADV_REMOVE"):
            self._memory.madvise(mmap.MADV_REMOVE)

    def _tensor(
        self, slot: int, shape: torch.Size, dtype: torch.dtype, is_shown: bool = False
    ) -> Tensor:
        count = shape.numel() * dtype.itemsize
        pixels = np.frombuffer(self._memory, np.uint8, count, slot * self.size)
        if is_shown:
            weakref.finalize(pixels, self.free, slot).atexit = False  # tensors keep `pixels`
        return torch.from_numpy(pixels).view(dtype).view(shape)


_MADE: weakref.WeakValueDictionary[int, SharedSlots] = weakref.WeakValueDictionary()


def _made(number: int) -> SharedSlots:
    return _MADE[number]
