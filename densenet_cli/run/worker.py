"""A process that executes the runs it is told of; see densenet_cli.run.supervisor, which starts it."""

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
from pathlib import Path
from typing import Any, NoReturn

from densenet_cli.options import UserError
from densenet_cli.process import ranks
from densenet_cli.process.load_torch import load_lightning
from densenet_cli.process.stop_signals import stop_signals
from densenet_cli.process.streams import drop_what_cannot_be_written


def main(words: list[str]) -> None:
    """Execute the run that the only word describes, or after --serve those of standard input."""
    for number in stop_signals():  # until a run obeys them in its own way
        # An exception would be lost, or reported as ignored, in what Python is importing or ending.
        signal.signal(number, lambda number, _: os._exit(128 + number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, stop_signals())
    ranks.spin_briefly()
    drop_what_cannot_be_written()
    if words[0] == "--serve":
        _serve(answers=int(words[1]))
    _run_one(json.loads(words[0]))


def _run_one(job: dict[str, Any]) -> NoReturn:
    """The exit status says how the run ended."""
    ranks.forget_nodes(job["config"]["trainer"])
    if ranks.is_first_process():
        threading.Thread(target=_die_with_parent, daemon=True).start()
    status = _execute(job)
    sys.stdout.flush()
    sys.stderr.flush()
    if status:
        os._exit(status)  # an orderly end might wait for processes that are no more
    sys.exit()


def _serve(answers: int) -> NoReturn:
    """Answer each line of standard input, a run, by a line: its exit status."""
    jobs: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    busy = threading.Event()

    def listen() -> None:
        # Not sys.stdin: while a thread reads it that stream is locked, and a loader worker that is
        # forked meanwhile waits for the lock for ever. An unbuffered stream has no lock.
        for line in open(0, "rb", buffering=0, closefd=False):  # noqa: SIM115
            busy.set()
            jobs.put(line)
        if busy.is_set():
            os.killpg(0, signal.SIGKILL)  # who started us is gone: the run goes on another time
        jobs.put(None)

    threading.Thread(target=listen, daemon=True).start()
    ranks.forget(ranks.NODES)
    environment = dict(os.environ)
    with os.fdopen(answers, "w") as stream:
        while (line := jobs.get()) is not None:
            status = _execute(json.loads(line))
            _give_back(environment)
            busy.clear()
            print(status, file=stream, flush=True)
    sys.exit()


def _execute(job: dict[str, Any]) -> int:
    try:
        load_lightning()
    except UserError as error:
        ranks.leave_message(Path(job["folder"]), str(error))
        os._exit(ranks.NOT_LOADED)
    from densenet_cli.run.execute import execute

    return execute(Path(job["folder"]), job["config"], job["overrides"], job["begin"])


def _give_back(environment: dict[str, str]) -> None:
    """Leave the process to the next run as this one found it."""
    import torch

    os.environ.clear()
    os.environ.update(environment)  # Lightning notes the seed there
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = torch.backends.cudnn.deterministic = False
    torch.set_float32_matmul_precision("highest")
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    with contextlib.suppress(OSError, AttributeError):  # only the GNU library has it
        ctypes.CDLL(None).malloc_trim(0)


def _die_with_parent() -> None:
    """End all processes of the run once the command that started them is gone."""
    os.read(0, 1)  # returns when the other end of our standard input is closed
    os.killpg(0, signal.SIGKILL)
