"""Warns when training stands still: when no step has ended for much longer than a step takes."""

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

CHECK_S = 0.5  # seconds between two checks
FIRST_S = 180.0  # the first step may take so long: kernels are compiled, disks wake up
LEAST_S = 30.0  # every later step may take so long,
TIMES_MEDIAN, TIMES_LONGEST = 20, 3  # or so many times the median or the longest of the steps before

log = logging.getLogger(__name__)


class Watchdog(Callback):
    """Warns each time that training or an evaluation stands still, and says where.

    A step is a batch of training or of an evaluation. While a step is stuck, signals do not wait for
    its end: the run stops at once, and resumes from its last checkpoint.

    Args:
        interruption: the signals that stop the run.
    """

    def __init__(self, interruption: Interruption) -> None:
        self._interruption = interruption
        self._took: deque[float] = deque(maxlen=100)  # seconds between the ends of two steps
        self._ended_at: float | None = None  # when the last step ended
        self._silence = 0.0  # seconds since then in which this process ran: a laptop may sleep
        self._over = threading.Event()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Start the thread that watches."""
        self._silence, self._ended_at, self._over = 0.0, None, threading.Event()
        arguments = (self._over, trainer.global_rank, trainer.world_size)
        threading.Thread(target=self._watch, args=arguments, daemon=True, name="watchdog").start()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Stop watching."""
        self._over.set()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Stop watching; kill loader workers that are stuck, for Python waits until they end."""
        self._over.set()
        if self._interruption.stalled:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler raises an error
            for worker in multiprocessing.active_children():
                worker.kill()

    def on_train_batch_end(self, *_: Any) -> None:
        """Note the end of a step."""
        self._step_ended()

    def on_validation_batch_end(self, *_: Any) -> None:
        """Note the end of a step."""
        self._step_ended()

    def on_test_batch_end(self, *_: Any) -> None:
        """Note the end of a step."""
        self._step_ended()

    def _step_ended(self) -> None:
        now, before, self._silence = time.monotonic(), self._ended_at, 0.0
        if before is not None:
            self._took.append(now - before)
            if self._interruption.stalled:
                log.warning("a step has ended after %s: training continues", duration(now - before))
        self._ended_at, self._interruption.stalled = now, False

    def _watch(self, over: threading.Event, rank: int, processes: int) -> None:
        while not over.wait(CHECK_S):
            self._silence += CHECK_S
            if self._silence > self._limit() and not self._interruption.stalled:
                self._warn(f"process {rank}: " if processes > 1 else "")
                self._interruption.stall()

    def _limit(self) -> float:
        """After how many seconds without the end of a step to warn."""
        took = list(self._took)
        if self._ended_at is None or not took:
            return FIRST_S
        return max(LEAST_S, TIMES_MEDIAN * statistics.median(took), TIMES_LONGEST * max(took))

    def _warn(self, process: str) -> None:
        stack = traceback.extract_stack(sys._current_frames()[threading.main_thread().ident or 0])
        workers = multiprocessing.active_children()
        cause = (
            "training waits for its loader workers, which read images; does the disk respond?"
            if workers and any(frame.filename.endswith("loader.py") for frame in stack)
            else f"training is stuck in {stack[-1].name}, see run.log"
        )
        usual = (
            f", and a step usually takes {statistics.median(self._took):.2g} s"
            if self._took
            else " since the start"
        )
        log.warning("%sno step has ended for %s%s: %s", process, duration(self._silence), usual, cause)
        log.info(
            "%sloader workers: %s; training is stuck here:\n%s",
            process,
            ", ".join(str(worker.pid) for worker in workers) or "none",
            "".join(traceback.format_list(stack)),
        )
