"""NVIDIA's Multi-Process Service (MPS): lets the kernels of several processes run on one GPU together.

Without it, processes that share a GPU take turns. It is a daemon that a sweep starts for itself, and a
process that stops the daemon when the sweep ends, whatever ends it.

A process that makes the GPU fail, or is killed while it computes there, can make the others on this GPU
fail too; typing the same command again resumes their runs.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from densenet_cli.options import UserError
from densenet_cli.plain_text import counted, last_line
from densenet_cli.process import child
from densenet_cli.process.load_torch import load_torch
from densenet_cli.process.streams import say

CONTROL = "nvidia-cuda-mps-control"
PIPES, LOGS = "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"
START_S, TRY_S, STOP_S = 20.0, 60.0, 15.0  # that a step of it may take
# Waits until the sweep closes the pipe, at its end or by dying. At most 5 seconds later, the processes
# of a killed sweep have ended too.
STOP = f"""
trap '' HUP INT TERM
cat >/dev/null
echo quit -t 5 | {CONTROL}
rm -rf "$0"
"""


class Refused(Exception):
    """Why MPS cannot be used."""


@contextlib.contextmanager
def serving(runs: int, gpus: int) -> Iterator[None]:
    """While entered, the processes that are started here compute through MPS, where that is possible.

    Says why it is not possible; the runs then take turns. A service that is running already is used.

    Args:
        runs: the number of runs at the same time.
        gpus: the number of GPUs that they share.
    """
    if _answers(os.environ):
        yield
        return
    folder = Path(tempfile.mkdtemp(prefix="densenet-cli-mps-"))  # short: a socket's name is
    mine = {PIPES: str(folder), LOGS: str(folder)}
    stopping = subprocess.Popen(
        ["sh", "-c", STOP, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **mine},
        start_new_session=True,  # so that Ctrl-C does not reach it
    )
    try:
        try:
            _start(folder, {**os.environ, **mine})
            os.environ.update(mine)  # which workers inherit
        except Refused as reason:
            say(
                f"{counted(runs, 'run')} at once take turns on {counted(gpus, 'GPU')}, without "
                f"NVIDIA's MPS: {reason}"
            )
        yield
    finally:
        for name in mine:
            os.environ.pop(name, None)
        assert stopping.stdin is not None
        stopping.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            stopping.wait(STOP_S)


def _start(folder: Path, environment: dict[str, str]) -> None:
    """Start the daemon, and compute something through it. Raises Refused."""
    if shutil.which(CONTROL) is None:
        raise Refused(f"{CONTROL} is not installed")
    # It sees all GPUs, since it would number those of CUDA_VISIBLE_DEVICES anew.
    of_all = {name: text for name, text in environment.items() if name != "CUDA_VISIBLE_DEVICES"}
    errors = folder / "errors"
    with errors.open("w", encoding="utf-8") as stream:  # no pipe, which the daemon would keep open
        try:
            status = subprocess.run(
                [CONTROL, "-d"],
                env=of_all,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                timeout=START_S,
                check=False,
            ).returncode
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Refused(f"{CONTROL}: {error}") from error
    if status:
        said = last_line(errors.read_text(encoding="utf-8", errors="replace"))
        raise Refused(said or f"{CONTROL} ended with status {status}")
    if not _answers(environment):
        raise Refused("the service does not answer")
    # A service that answers can still refuse all work, in a container without permission for example.
    command = child.command("densenet_cli.sweep.mps:use_gpus")
    environment = {**child.environment(), **environment}
    try:
        answer = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=TRY_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise Refused(f"a GPU did not answer within {TRY_S:.0f} s") from None
    if answer.returncode:
        raise Refused(last_line(answer.stderr) or f"status {answer.returncode}")


def _answers(environment: os._Environ[str] | dict[str, str]) -> bool:
    """Whether a daemon answers."""
    if shutil.which(CONTROL) is None:
        return False
    try:
        answer = subprocess.run(
            [CONTROL],
            input="get_server_list\n",
            env=dict(environment),
            capture_output=True,
            text=True,
            timeout=START_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0


def use_gpus(_: list[str]) -> None:
    """Compute something on each GPU; in a process of its own, since a sweep does not load torch."""
    try:
        load_torch()
    except UserError as error:
        raise SystemExit(str(error)) from error
    import torch

    for gpu in range(torch.cuda.device_count()):
        torch.ones(1, device=f"cuda:{gpu}").add_(1).item()
