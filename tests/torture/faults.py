"""SIGKILL, or a full disk, at every file operation of a run; then the run is started again."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import tiny_sweep
from case import Ended, Fault, in_child, preload, random_numbers
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
    """Each case: its number, a description, and a function that raises Fault."""
    config = _config()
    first = preload(partial(_run, config), scratch / "warm")
    with contextlib.suppress(Unavailable):
        load()
    counted = in_child(partial(_run, config, counting=scratch / "count"), scratch / "uninterrupted")
    if first.status or counted.status:
        raise SystemExit(f"the uninterrupted run failed: {first.said} {counted.said}")
    uninterrupted = tiny_sweep.left(scratch / "uninterrupted/run")
    number_of_operations = int((scratch / "count").read_text())
    assert number_of_operations > 50, "file operations are no longer counted"
    numbers = list(range(len(KINDS) * number_of_operations))
    random_numbers(seed, "faults", 0).shuffle(numbers)  # if time is short, another seed tries others
    for number in [only] if only is not None else numbers:
        if time.monotonic() > deadline:
            return
        at, kind = 1 + number // len(KINDS), KINDS[number % len(KINDS)]
        folder = scratch / str(number)
        yield (
            number,
            f"{kind} at file operation {at}",
            partial(_try, config, folder, at, kind, uninterrupted),
        )


def _try(
    config: dict[str, Any], folder: Path, at: int, kind: str, uninterrupted: dict[str, Any]
) -> None:
    first = in_child(partial(_run, config, at=at, kill=kind == "kill"), folder)
    _check_end(first, kind)
    again = in_child(partial(_run, config), folder).without_traces()
    if again.status:
        raise Fault(f"started again, it ends with status {again.status}: {again.said}")
    tiny_sweep.compare(folder / "run", uninterrupted)
    shutil.rmtree(folder)


def _check_end(first: Ended, kind: str) -> None:
    if kind == "kill":
        if first.status not in (-9, 0):  # 0: this time there was no such operation
            raise Fault(f"status {first.status}: {first.said}")
        return
    first.without_traces()
    said = [line for line in first.said.splitlines() if line.startswith("densenet-run: ")]
    if first.status and (len(said) != 1 or "No space left on device" not in said[0]):
        raise Fault(f"a full disk must be one message; there are {len(said)}: {first.said}")


def _run(
    config: dict[str, Any],
    at: int | None = None,
    kill: bool = False,
    counting: Path | None = None,
) -> int:
    """Execute the run in this process, as a sweep does."""
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
