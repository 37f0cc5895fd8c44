"""SIGKILL, and a full disk, at every file operation of a run; then the run is typed again."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import tiny_sweep
from case import Ended, Fault, chance, in_child, warm
from file_operations import FileOperations

from densenet_cli.config import resolvers
from densenet_cli.config.compose import compose, composing, resolved
from densenet_cli.kernels.cpu.compilation import Unavailable, load
from densenet_cli.run.execute import execute

KINDS = ("kill", "full disk")
WORDS = [*tiny_sweep.WORDS, "++trainer.limit_train_batches=2"]


def cases(
    seed: int, scratch: Path, deadline: float, only: int | None
) -> Iterator[tuple[int, str, Any]]:
    """Each case: its number, what it is, and a function that raises Fault if it finds one."""
    config = _config()
    first = warm(partial(_run, config), scratch / "warm")
    with contextlib.suppress(Unavailable):
        load()
    counted = in_child(partial(_run, config, counting=scratch / "count"), scratch / "unbroken")
    if first.status or counted.status:
        raise SystemExit(f"the unbroken run failed: {first.said} {counted.said}")
    unbroken = tiny_sweep.left(scratch / "unbroken/run")
    number_of_operations = int((scratch / "count").read_text())
    assert number_of_operations > 50, "operations are not counted any more"
    numbers = list(range(len(KINDS) * number_of_operations))
    chance(seed, "faults", 0).shuffle(numbers)  # where time is short, others the next time
    for number in [only] if only is not None else numbers:
        if time.monotonic() > deadline:
            return
        at, kind = 1 + number // len(KINDS), KINDS[number % len(KINDS)]
        folder = scratch / str(number)
        yield (
            number,
            f"{kind} at file operation {at}",
            partial(_try, config, folder, at, kind, unbroken),
        )


def _try(config: dict[str, Any], folder: Path, at: int, kind: str, unbroken: dict[str, Any]) -> None:
    first = in_child(partial(_run, config, at=at, kill=kind == "kill"), folder)
    _judge(first, kind)
    again = in_child(partial(_run, config), folder).without_traces()
    if again.status:
        raise Fault(f"typed again, it ends with status {again.status}: {again.said}")
    tiny_sweep.compare(folder / "run", unbroken)
    shutil.rmtree(folder)


def _judge(first: Ended, kind: str) -> None:
    if kind == "kill":
        if first.status not in (-9, 0):  # 0: this time the operation did not come
            raise Fault(f"status {first.status}: {first.said}")
        return
    first.without_traces()
    said = [line for line in first.said.splitlines() if line.startswith("densenet-run: ")]
    if first.status and (len(said) != 1 or "No space left on device" not in said[0]):
        raise Fault(f"a full disk is to be told in one message; there are {len(said)}: {first.said}")


def _run(
    config: dict[str, Any],
    at: int | None = None,
    kill: bool = False,
    counting: Path | None = None,
) -> int:
    """The run, as a sweep runs it, in this process."""
    folder = Path("run").absolute()
    folder.mkdir(exist_ok=True)
    operations = FileOperations(folder, at, kill) if at or counting else None
    status = execute(folder, config, [], "either")
    if counting and operations:
        counting.write_text(str(operations.count))
    return status


def _config() -> dict[str, Any]:
    resolvers.register()
    with composing():
        return resolved(compose(WORDS))
