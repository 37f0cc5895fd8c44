"""Records whose files are changed at random, read by every command that reads records."""

from __future__ import annotations

import io
import json
import random
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import mutations
import tiny_sweep
from case import TRACES, Fault, in_child, random_numbers, until

from densenet_cli.commands import results as cli
from densenet_cli.config import resolvers
from densenet_cli.config.compose import composing
from densenet_cli.options import UserError
from densenet_cli.record.run_record import read_config
from densenet_cli.record.sweep_file import read_sweep
from densenet_cli.sweep import jobs

BATCH = 50  # cases per process: if it dies, one of these is the cause
TIMEOUT_S = 60  # of one command
WORDS = [
    *tiny_sweep.WORDS,
    "++trainer.limit_train_batches=2",
    "model.growth_rate=4,6",
    "sweep.name=mine",
]
MUTATED = {
    "run.json": 8,
    "metrics.csv": 3,
    "outcomes.json": 2,
    "config.yaml": 1,
    "overrides.yaml": 1,
    "../sweep.yaml": 1,
}


def cases(
    seed: int, scratch: Path, deadline: float, only: int | None
) -> Iterator[tuple[int, str, Any]]:
    """Each case is one record that is changed and read: its number, a description, and a function."""
    made = in_child(_make, scratch / "made")
    if made.status:
        raise SystemExit(f"the records could not be made: {made.said}")
    sweep = scratch / "made/outputs/mine"
    if only is not None:
        yield only, "a changed record", partial(_in_process, seed, sweep, [only], scratch / "one")
        return
    first_numbers = iter(range(0, sys.maxsize, BATCH))
    for first in until(deadline, first_numbers):
        numbers = list(range(first, first + BATCH))
        yield first, "changed records", partial(_in_process, seed, sweep, numbers, scratch / "batch")


def _in_process(seed: int, sweep: Path, numbers: list[int], folder: Path) -> int:
    """Try cases in a process of their own; their number."""
    ended = in_child(partial(_try_all, seed, sweep, numbers), folder, timeout=len(numbers) * TIMEOUT_S)
    shutil.rmtree(folder)
    if ended.status:
        raise Fault(f"status {ended.status}: {ended.said[-6000:]}")
    return len(numbers)


def _try_all(seed: int, sweep: Path, numbers: list[int]) -> int:
    from densenet_cli.results.plots import write  # noqa: F401 -- loaded once

    signal.signal(signal.SIGALRM, _on_timeout)
    for number in numbers:
        copy = Path(f"outputs{number}")
        shutil.copytree(sweep, copy / "mine")
        try:
            _try(random_numbers(seed, "records", number), copy / "mine")
        except BaseException as error:
            kept = sorted(str(path) for path in copy.rglob("run.json"))
            raise Fault(f"records {number}: {error!r} ({' '.join(kept)})") from error
        shutil.rmtree(copy)
    return 0


def _on_timeout(number: int, frame: object) -> None:
    raise TimeoutError(f"more than {TIMEOUT_S} s")


def _try(chance: random.Random, sweep: Path) -> None:
    runs = sorted(path.parent for path in sweep.glob("*/run.json"))
    for _ in range(chance.choice([1, 1, 1, 2])):
        (name,) = chance.choices(list(MUTATED), list(MUTATED.values()))
        path = chance.choice(runs) / name
        mutations.mutate(path, chance)
    readers = _readers(sweep, runs, chance)
    for reader in chance.sample(readers, k=4):
        signal.alarm(TIMEOUT_S)
        reader()
        signal.alarm(0)


def _readers(sweep: Path, runs: list[Path], chance: random.Random) -> list[Callable[[], object]]:
    form = chance.choice(["rich", "markdown", "latex", "csv", "json"])
    words = [
        ["table", str(sweep), "--format", form],
        ["table", str(sweep), "--paper", "--group-by", "model.growth_rate", "--sort", "-error"],
        ["table", str(sweep), "--years"],
        ["decide", str(sweep), "--baseline", "growth_rate=4", "--format", form],
        ["decide", str(runs[0]), str(runs[1]), "--margin", "0.3"],
        ["watch", str(sweep), "--once"],
        ["compare", str(runs[0]), str(runs[1])],
        ["compare", str(runs[1]), str(runs[0])],
    ]
    if chance.random() < 0.02:  # these take seconds, the others milliseconds
        words = [
            ["report", str(sweep), "--output", "page.html", "--baseline", "growth_rate=4"],
            ["plot", str(sweep), "--output", "figures"],
        ]
        words.append(["watch", str(sweep), "--once"])
    readers: list[Callable[[], object]] = [partial(_type, line) for line in words]
    ours = [partial(read_config, run) for run in runs] + [partial(read_sweep, sweep)]
    return readers + [partial(_read, one) for one in ours]


def _type(words: list[str]) -> None:
    """Call densenet-results; raise Fault if it prints a traceback."""
    sys.argv = ["densenet-results", *words]
    said = io.StringIO()
    try:
        with redirect_stdout(said), redirect_stderr(said):
            cli.main()
    except SystemExit as end:
        said.write(str(end.code))
    except BaseException as error:
        raise Fault(f"densenet-results {' '.join(words)}: {error!r}") from error
    if any(trace in said.getvalue() for trace in TRACES):
        raise Fault(f"densenet-results {' '.join(words)}: {said.getvalue()}")


def _read(reader: Callable[[], object]) -> None:
    try:
        reader()
    except UserError:
        return


def _make() -> int:
    """Make two finished runs of one sweep."""
    from densenet_cli.run.execute import execute

    resolvers.register()
    with composing():
        sweep = jobs.compose_sweep(WORDS)
        jobs.save_sweep(sweep)
    for job in sweep.jobs:
        job.folder.mkdir(parents=True)
        if execute(job.folder, job.config, job.overrides, "either"):
            return 1
        shutil.rmtree(job.folder / "checkpoints")
        assert json.loads((job.folder / "run.json").read_text())["state"] == "done"
    return 0
