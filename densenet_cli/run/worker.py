"""A worker process, which executes runs; densenet_cli.run.supervisor starts it."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from densenet_cli.options import UserError
from densenet_cli.process import ranks
from densenet_cli.process.load_torch import load_lightning
from densenet_cli.process.stop_signals import stop_signals
from densenet_cli.process.streams import drop_what_cannot_be_written
from densenet_cli.run.supervisor import GPU_MEMORY

KEPT = ("TRITON_CACHE_DIR",)  # of what a run sets: where the kernels are, which the next run uses too


def main(arguments: list[str]) -> None:
    """Execute one run, given as JSON; or after --serve, the runs that standard input lists."""
    for number in stop_signals():  # until a run sets its own handlers
        # No exception: while Python imports or ends, it would be lost or printed as ignored.
        signal.signal(number, lambda number, _: os._exit(128 + number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, stop_signals())
    ranks.spin_briefly()
    drop_what_cannot_be_written()
    if arguments[0] == "--serve":
        _execute_all(answers=int(arguments[1]))
    _execute_one(json.loads(arguments[0]))


def _execute_one(run: dict[str, Any]) -> NoReturn:
    """Execute a run; its exit status is that of this process."""
    ranks.forget_nodes(run["config"]["trainer"])
    if ranks.is_first_process():
        threading.Thread(target=_die_with_parent, daemon=True).start()
    status = _execute(run)
    sys.stdout.flush()
    sys.stderr.flush()
    if status:
        os._exit(status)  # sys.exit might wait for processes that have died
    sys.exit()


def _execute_all(answers: int) -> NoReturn:
    """Execute the runs of standard input, one per line; write their exit statuses, one per line.

    A run that asks whether to go on writes a line too, {"completed": epochs}; the next line of standard
    input is then the answer, true or false.

    Args:
        answers: the file descriptor that the exit statuses and questions are written to.
    """
    told: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    busy = threading.Event()

    def listen() -> None:
        # Not sys.stdin: the thread that reads it holds its lock, and a loader worker that is forked
        # meanwhile would wait for this lock for ever. An unbuffered stream has no lock.
        for line in open(0, "rb", buffering=0, closefd=False):  # noqa: SIM115
            busy.set()
            told.put(line)
        if busy.is_set():
            os.killpg(0, signal.SIGKILL)  # the command that started us has died
        told.put(None)

    threading.Thread(target=listen, daemon=True).start()
    ranks.forget(ranks.NODES)
    environment = dict(os.environ)
    with os.fdopen(answers, "w") as stream:

        def answer(**words: int) -> None:
            print(json.dumps(words), file=stream, flush=True)

        def goes_on(epochs: int) -> bool:
            answer(completed=epochs)
            reply = told.get()
            assert reply is not None  # else this process has been killed
            return json.loads(reply)

        while (line := told.get()) is not None:
            status = _execute(json.loads(line), goes_on)
            _reset(environment)
            busy.clear()
            answer(status=status)
    sys.exit()


def _execute(run: dict[str, Any], goes_on: Callable[[int], bool] | None = None) -> int:
    try:
        load_lightning()
    except UserError as error:
        ranks.leave_message(Path(run["folder"]), str(error))
        os._exit(ranks.NOT_LOADED)
    _keep_to_gpu_memory()
    from densenet_cli.run.execute import execute

    asked = goes_on if run.get("asks") else None
    return execute(Path(run["folder"]), run["config"], run["overrides"], run["begin"], asked)


def _keep_to_gpu_memory() -> None:
    """On a GPU that is shared, let an allocation beyond our share fail, and not those of other runs."""
    import torch

    share = os.environ.get(GPU_MEMORY)
    if share is not None and torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(int(share) / total)


def _reset(environment: dict[str, str]) -> None:
    """Undo what a run has changed in this process, before the next run."""
    import torch

    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    os.environ.clear()
    os.environ.update(environment | kept)  # Lightning stores the seed there
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = torch.backends.cudnn.deterministic = False
    torch.set_float32_matmul_precision("highest")
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    with contextlib.suppress(OSError, AttributeError):  # only glibc has malloc_trim
        ctypes.CDLL(None).malloc_trim(0)


def _die_with_parent() -> None:
    """Kill all processes of the run when the command that started them has died."""
    os.read(0, 1)  # returns when standard input is closed
    os.killpg(0, signal.SIGKILL)
