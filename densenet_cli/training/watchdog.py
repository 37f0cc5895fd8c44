"""Says so when training stands still: when no step has ended for far longer than steps take."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import statistics
import sys
import threading
import time
import traceback
from collections import deque
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from densenet_cli.training.interruption import Interruption
from densenet_cli.units import duration

LOOK_S = 0.5  # between two looks
FIRST_S = 180.0  # a first step may take so long: kernels are compiled, disks wake up
LEAST_S = 30.0  # any later step may
TIMES, TIMES_LONGEST = 20, 3  # as long as the median of the steps before, and as the longest of them

log = logging.getLogger(__name__)


class Watchdog(Callback):
    """Warns, each time that training or an evaluation stands still, and says at what.

    Steps are batches of training and of evaluations. While one is stuck, signals need not wait for its
    end: the run stops at once and goes on from its last checkpoint.

    Args:
        interruption: the signals that the run obeys.
    """

    def __init__(self, interruption: Interruption) -> None:
        self._interruption = interruption
        self._took: deque[float] = deque(maxlen=100)  # seconds between the ends of two steps
        self._ended_at: float | None = None  # the last step
        self._silence = 0.0  # since then, in seconds while this process ran: a laptop may sleep
        self._over = threading.Event()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begin to watch."""
        self._silence, self._ended_at, self._over = 0.0, None, threading.Event()
        words = (self._over, trainer.global_rank, trainer.world_size)
        threading.Thread(target=self._watch, args=words, daemon=True, name="watchdog").start()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Watch no more."""
        self._over.set()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Watch no more; leave no loader worker behind that is stuck, for whose end Python waits."""
        self._over.set()
        if self._interruption.stalled:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch raises an error when a worker dies
            for worker in multiprocessing.active_children():
                worker.kill()

    def on_train_batch_end(self, *_: Any) -> None:
        """A step has ended."""
        self._step_ended()

    def on_validation_batch_end(self, *_: Any) -> None:
        """A step has ended."""
        self._step_ended()

    def on_test_batch_end(self, *_: Any) -> None:
        """A step has ended."""
        self._step_ended()

    def _step_ended(self) -> None:
        now, before, self._silence = time.monotonic(), self._ended_at, 0.0
        if before is not None:
            self._took.append(now - before)
            if self._interruption.stalled:
                log.warning("a step has ended after %s: training goes on", duration(now - before))
        self._ended_at, self._interruption.stalled = now, False

    def _watch(self, over: threading.Event, rank: int, processes: int) -> None:
        while not over.wait(LOOK_S):
            self._silence += LOOK_S
            if self._silence > self._limit() and not self._interruption.stalled:
                self._warn(f"process {rank}: " if processes > 1 else "")
                self._interruption.stall()

    def _limit(self) -> float:
        """How long no step may end before something is said, in seconds."""
        took = list(self._took)
        if self._ended_at is None or not took:
            return FIRST_S
        return max(LEAST_S, TIMES * statistics.median(took), TIMES_LONGEST * max(took))

    def _warn(self, process: str) -> None:
        stack = traceback.extract_stack(sys._current_frames()[threading.main_thread().ident or 0])
        workers = multiprocessing.active_children()
        cause = (
            "training waits for its loader workers, which read images; does the disk answer?"
            if workers and any(frame.filename.endswith("loader.py") for frame in stack)
            else f"training stands in {stack[-1].name}, see run.log"
        )
        took = f"where one takes {statistics.median(self._took):.2g} s" if self._took else "not one yet"
        log.warning("%sno step has ended for %s, %s: %s", process, duration(self._silence), took, cause)
        log.info(
            "%sloader workers: %s; training stands here:\n%s",
            process,
            ", ".join(str(worker.pid) for worker in workers) or "none",
            "".join(traceback.format_list(stack)),
        )
