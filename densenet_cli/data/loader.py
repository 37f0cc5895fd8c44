"""The loader of batches, and loader workers: processes that read batches in advance."""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import pickle
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from densenet_cli.data.shared_slots import SharedSlots, Written
from densenet_cli.options import UserError
from densenet_cli.plain_text import first_line

log = logging.getLogger(__name__)

SHARED = Path("/dev/shm")  # the shared memory of Linux
PREFETCHED = 2  # batches that each worker reads in advance
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux's prctl


class LazyLoader(DataLoader):
    """A DataLoader that does not use its sampler before the first batch is requested.

    Lightning creates the iterator before it calls set_epoch. By then an ordinary DataLoader would have
    given its workers the batches of epoch 0, whatever epoch a resumed run starts with.

    Workers are forked where the system forks by default (Linux): they start in milliseconds and share
    the memory of torch and of the images. A forked process must never wait for a lock that a thread of
    its parent held: run/worker.py reads without locks, logging and filelock renew theirs, and torch
    reads images with one thread in a worker, without OpenMP. With "forkserver" each run would import
    torch and Lightning a second time, which costs seconds and hundreds of megabytes.

    Args:
        split: split[item] is the batch for one item of `sampler`, a tuple of tensors. Workers set its
            attribute `empty`, see Split.
        sampler: its items are the arguments of `split`, one per batch.
        workers: the number of processes that read; 0: this process reads.
        warned: the warnings given so far; the loaders of one data set share this set.
        add_unread: is given what a split has in its list `unread` after a batch, if it has one.
        largest: bytes that the first tensor of a batch, its images, has at most; 0: not known.

    Raises:
        UserError: during iteration, if an image is broken or workers cannot be started.
    """

    def __init__(
        self,
        split: Any,
        sampler: Sampler[Any],
        workers: int,
        warned: set[str],
        add_unread: Callable[[list[Any]], None] | None = None,
        largest: int = 0,
    ) -> None:
        self._split, self._warned, self._add_unread = split, warned, add_unread
        self._slots = _slots(workers, largest) if workers and largest and are_forked() else None
        super().__init__(
            _Packing(split, self._slots) if workers else split,  # type: ignore[arg-type]
            batch_size=None,  # each item of the sampler is a whole batch
            sampler=_WithSlots(sampler, self._slots) if workers else sampler,
            num_workers=workers,
            prefetch_factor=PREFETCHED if workers else None,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # else each epoch would use a number of the global generator
            worker_init_fn=_set_up_worker,
        )

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        try:
            if self.num_workers and self._iterator is None:
                # Without space for these, DataLoader fails later and less clearly: so fail here.
                [multiprocessing.Queue() for _ in range(self.num_workers + 3)]
            batches = super().__iter__()
        except OSError as error:  # no space for shared memory, or too many processes
            reason = error.strerror or str(error)
            raise UserError(
                f"data.num_workers={self.num_workers}: loader workers cannot be started: {reason}"
                f"{_remedy(reason)}; data.num_workers=0 works without them"
            ) from error
        for batch in batches:
            unread = batch.unread if isinstance(batch, Packed) else _taken(self._split)
            if unread and self._add_unread is not None:
                self._add_unread(unread)
            yield self._opened(batch) if isinstance(batch, Packed) else batch
        if self._slots is not None:
            self._slots.rest()

    def _opened(self, packed: Packed) -> tuple[Tensor, ...]:
        if packed.note is not None and packed.note not in self._warned:
            self._warned.add(packed.note)
            log.warning(
                "loader workers cannot use shared memory: %s; they use pipes, which are slower%s",
                packed.note,
                _remedy(packed.note),
            )
        return packed.batch()


class Packed:
    """A batch on its way from a loader worker to training, or the reason why there is none.

    The worker packs the batch itself. Otherwise the thread of its queue would do so, whose errors, such
    as a lack of shared memory, are lost: training would wait for that batch forever.
    """

    note: str | None = None  # why shared memory was not used
    error: str | None = None  # why there is no batch
    traceback: str | None = None  # of an error that is not a UserError
    unread: list[Any] | None = None  # images that could not be read
    _content = b""  # all tensors, or those after the images if these are in a slot
    _slots: SharedSlots | None = None
    _written: Written | None = None
    _pinned: tuple[Tensor, ...] | None = None

    @classmethod
    def of(
        cls, batch: Sequence[Tensor], slots: SharedSlots | None = None, slot: int | None = None
    ) -> Packed:
        """A batch whose images are in a slot.

        Without one it is in shared memory of its own; if that fails, its bytes go through a pipe.
        """
        packed = cls()
        if slots is not None and slot is not None and (written := slots.write(slot, batch[0])):
            packed._slots, packed._written = slots, written
            packed._content = pickle.dumps(tuple(tensor.numpy() for tensor in batch[1:]))
            return packed
        try:
            for tensor in batch:
                tensor.share_memory_()
            packed._content = bytes(ForkingPickler.dumps(tuple(batch)))
        except (RuntimeError, OSError) as error:
            packed.note = first_line(error).rpartition(": ")[2]  # without the file's name
            packed._content = pickle.dumps(tuple(tensor.numpy() for tensor in batch))
        return packed

    @classmethod
    def failed(cls, error: Exception) -> Packed:
        """The text of an error instead of a batch: not every error can be pickled."""
        packed = cls()
        packed.error = str(error)
        if not isinstance(error, UserError):
            packed.error = f"in a loader worker: {type(error).__name__}: {error}"
            packed.traceback = "".join(traceback.format_exception(error))
        return packed

    def batch(self) -> tuple[Tensor, ...]:
        """The tensors. Raises UserError, or RuntimeError for an error that is no UserError."""
        if self.traceback is not None:
            raise RuntimeError(self.error) from RuntimeError(self.traceback)
        if self.error is not None:
            raise UserError(self.error)
        if self._pinned is not None:
            return self._pinned
        tensors = tuple(map(torch.as_tensor, pickle.loads(self._content)))
        if self._slots is None or self._written is None:
            return tensors
        return self._slots.read(self._written), *tensors

    def pin_memory(self) -> Packed:
        """Pin the tensors; DataLoader calls this in a thread, so that copies to a GPU do not wait."""
        if self.error is None:
            self._pinned = tuple(tensor.pin_memory() for tensor in self.batch())
        return self


class _WithSlots(Sampler):
    """The items of a sampler, each with the slot that the images of its batch may use, or None."""

    def __init__(self, sampler: Sampler[Any], slots: SharedSlots | None) -> None:
        self.sampler, self.slots = sampler, slots

    def __len__(self) -> int:
        return len(self.sampler)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[tuple[int | None, Any]]:
        if self.slots is not None:
            self.slots.begin()
        for item in self.sampler:
            yield None if self.slots is None else self.slots.claim(), item

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before every epoch."""
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)


class _Packing:
    """A split for loader workers: its batches are packed, and so are its errors."""

    def __init__(self, split: Any, slots: SharedSlots | None) -> None:
        self.split, self.slots = split, slots

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, item: tuple[int | None, Any]) -> Packed:
        slot, tickets = item
        self.split.empty = (
            torch.empty if self.slots is None or slot is None else partial(self.slots.empty, slot)
        )
        try:
            packed = Packed.of(self.split[tickets], self.slots, slot)
        except Exception as error:
            packed = Packed.failed(error)
        packed.unread = _taken(self.split)
        return packed


def _taken(split: Any) -> list[Any]:
    """What is in a split's list `unread`, which is empty then."""
    unread: list[Any] = getattr(split, "unread", [])
    taken = unread.copy()
    unread.clear()
    return taken


def are_forked() -> bool:
    """Whether loader workers are forked, and have the memory and the objects of this process."""
    return multiprocessing.get_start_method() == "fork"


def _slots(workers: int, largest: int) -> SharedSlots | None:
    """Slots for the batches on their way, and those that training has or has just used."""
    try:
        return SharedSlots(PREFETCHED * workers + 3, largest)
    except OSError:  # a limit on memory, such as ulimit -v: each batch gets its own
        return None


def _set_up_worker(number: int) -> None:
    """In a new loader worker: ignore signals from outside, and end when the run ends.

    Terminals and schedulers send signals to all processes of a run at once. The run then saves a
    checkpoint, and needs its workers until that is done.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if sys.platform == "linux" and parent is not None:
        ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        threading.Thread(target=_wait_for_sigterm, args=(parent.pid,), daemon=True).start()


def _wait_for_sigterm(parent: int | None) -> None:
    """Exit on SIGTERM from the parent: DataLoader sends it to a worker that does not stop by itself."""
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != parent:
        pass
    os._exit(0)


def _remedy(reason: str) -> str:
    """What the user can do about a limit of the system that loader workers have reached."""
    if "No space left" in reason and SHARED.exists():
        size = shutil.disk_usage(SHARED).total
        return (
            f"; {SHARED} has {size / 2**20:.3g} MiB: make it larger (docker run --shm-size=2g or "
            "--ipc=host) or type a smaller data.num_workers="
        )
    if "open files" in reason:
        return "; raise the limit (ulimit -n 65536) or type a smaller data.num_workers="
    if "temporarily unavailable" in reason:
        return "; raise the limit on processes (ulimit -u) or type a smaller data.num_workers="
    return ""
