"""The loader of batches, and the loader workers: processes that read batches ahead of training."""

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
from collections.abc import Iterator, Sequence
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from densenet_cli.options import UserError
from densenet_cli.plain_text import first_line

log = logging.getLogger(__name__)

SHARED = Path("/dev/shm")  # where Linux keeps what processes share
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux's prctl


class LazyLoader(DataLoader):
    """A DataLoader that asks its sampler only when the first batch is wanted.

    Lightning makes the iterator before it calls set_epoch; worker processes would by then have
    been given the batches of epoch 0, whatever epoch a resumed run begins with.

    Workers are forked where the system forks by default (Linux): they start in milliseconds and share
    the memory of torch and of the images. A forked process must never wait for a lock that a thread of
    its parent held, so: worker.py reads without locks, logging and filelock renew theirs, and torch
    reads images with one thread in a worker, without OpenMP. With "forkserver" each run would load
    torch and Lightning a second time, which costs seconds and hundreds of megabytes.

    Args:
        split: gives the batch of one item of `sampler`, a tuple of tensors.
        sampler: what to ask `split` for, a whole batch at a time.
        workers: how many processes read; 0: this process reads.
        warned: the warnings given so far; the loaders of one data set share this set.

    Raises:
        UserError: from iteration, if an image is broken, or if workers cannot be started.
    """

    def __init__(self, split: Any, sampler: Sampler[Any], workers: int, warned: set[str]) -> None:
        self._warned = warned
        super().__init__(
            _Packing(split) if workers else split,  # type: ignore[arg-type]
            batch_size=None,  # an item of the sampler is a whole batch already
            sampler=sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # else each epoch takes a number from the global one
            worker_init_fn=_begin_worker,
        )

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        try:
            if self.num_workers and self._iterator is None:
                # Where there is no room for them, DataLoader fails untidily, so this fails before.
                [multiprocessing.Queue() for _ in range(self.num_workers + 3)]
            batches = super().__iter__()
        except OSError as error:  # no room for what they share, or too many processes
            reason = error.strerror or str(error)
            raise UserError(
                f"data.num_workers={self.num_workers}: loader workers cannot be started: {reason}"
                f"{_remedy(reason)}; data.num_workers=0 works without them"
            ) from error
        for batch in batches:
            yield self._opened(batch) if isinstance(batch, Packed) else batch

    def _opened(self, packed: Packed) -> tuple[Tensor, ...]:
        if packed.note is not None and packed.note not in self._warned:
            self._warned.add(packed.note)
            log.warning(
                "loader workers cannot hand images over in shared memory: %s; they do so by pipes, "
                "which is slower%s",
                packed.note,
                _remedy(packed.note),
            )
        return packed.batch()


class Packed:
    """A batch as it goes from a loader worker to training, or why there is none.

    A worker packs it itself: what fails in the thread of the queue, as for want of shared memory, is
    lost, and training would wait for that batch for ever.
    """

    note: str | None = None  # why shared memory could not be used
    error: str | None = None  # why there is no batch
    traceback: str | None = None  # of an error that is no UserError
    _content = b""
    _pinned: tuple[Tensor, ...] | None = None

    @classmethod
    def of(cls, batch: Sequence[Tensor]) -> Packed:
        """In shared memory; where that fails its bytes themselves, to go through a pipe."""
        packed = cls()
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
        """No batch but the error, in words: not every error can be packed."""
        packed = cls()
        packed.error = str(error)
        if not isinstance(error, UserError):
            packed.error = f"in a loader worker: {type(error).__name__}: {error}"
            packed.traceback = "".join(traceback.format_exception(error))
        return packed

    def batch(self) -> tuple[Tensor, ...]:
        """The tensors. Raises UserError, or RuntimeError where the fault is not the user's."""
        if self.traceback is not None:
            raise RuntimeError(self.error) from RuntimeError(self.traceback)
        if self.error is not None:
            raise UserError(self.error)
        if self._pinned is not None:
            return self._pinned
        return tuple(map(torch.as_tensor, pickle.loads(self._content)))

    def pin_memory(self) -> Packed:
        """Called by DataLoader in a thread of its own, so that copies to a GPU need not wait."""
        if self.error is None:
            self._pinned = tuple(tensor.pin_memory() for tensor in self.batch())
        return self


class _Packing:
    """A split as loader workers read it: packed, whatever happens."""

    def __init__(self, split: Any) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, item: Any) -> Packed:
        try:
            return Packed.of(self.split[item])
        except Exception as error:
            return Packed.failed(error)


def _begin_worker(number: int) -> None:
    """In a new loader worker: let the run alone end it, and end with the run, however that ends.

    Terminals and schedulers send their signals to all processes of a run at once. The run then saves
    where it is, and needs its workers until it has.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if sys.platform == "linux" and parent is not None:
        ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        threading.Thread(target=_obey, args=(parent.pid,), daemon=True).start()


def _obey(parent: int | None) -> None:
    """End at a SIGTERM of the parent, by which DataLoader ends a worker that does not end by itself."""
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != parent:
        pass
    os._exit(0)


def _remedy(reason: str) -> str:
    """What to do about a limit of the system that loader workers have met."""
    if "No space left" in reason and SHARED.exists():
        size = shutil.disk_usage(SHARED).total
        return (
            f"; {SHARED}, which they share, holds {size / 2**20:.3g} MiB: give it more (docker run "
            "--shm-size=2g or --ipc=host) or type a smaller data.num_workers="
        )
    if "open files" in reason:
        return "; raise the limit (ulimit -n 65536) or type a smaller data.num_workers="
    if "temporarily unavailable" in reason:
        return "; there may be no more processes (ulimit -u) or type a smaller data.num_workers="
    return ""
