"""Sweeps that are killed at random moments and started again, until they are complete."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import tiny_sweep
from case import TRACES, Fault, random_numbers, until

KILLS = 5  # the most kills of one sweep
JOBS = ("seed=0", "seed=1", "seed=2")
SWEEP = Path("outputs/mine")
WORDS = ["--multirun", *tiny_sweep.WORDS, "seed=0,1,2", "sweep.name=mine"]
LAUNCHERS: tuple[list[str], ...] = ([], ["hydra/launcher=parallel"])


def cases(
    seed: int, scratch: Path, deadline: float, only: int | None
) -> Iterator[tuple[int, str, Any]]:
    """Each case is a sweep: its number, a description, and a function that raises Fault."""
    started = time.monotonic()
    status, said = _type([], scratch / "uninterrupted")
    whole_s = time.monotonic() - started
    if status:
        raise SystemExit(f"the uninterrupted sweep failed: {said}")
    uninterrupted = {name: tiny_sweep.left(scratch / "uninterrupted" / SWEEP / name) for name in JOBS}
    for number in [only] if only is not None else until(deadline, itertools.count()):
        chance = random_numbers(seed, "kills", number)
        launcher = LAUNCHERS[chance.random() < 0.3 and (os.cpu_count() or 1) > 1]
        what = " ".join(["a sweep is killed", *launcher])
        yield (
            number,
            what,
            partial(_try, chance, launcher, scratch / str(number), whole_s, uninterrupted),
        )


def _try(
    chance: random.Random, launcher: list[str], folder: Path, whole_s: float, uninterrupted: dict
) -> int:
    """Kill the sweep and start it again, several times; how many times it was still running."""
    done: dict[str, str] = {}
    kills = 0
    for _ in range(chance.randint(1, KILLS)):
        kills += _kill(launcher, folder, chance)
        _check_done(folder, done)
        if len(done) == len(JOBS):
            break
    status, said = _type(launcher, folder)
    if status:
        raise Fault(f"started again, the sweep ends with status {status}: {said}")
    _check_done(folder, done)
    names = sorted(path.parent.name for path in (folder / SWEEP).glob("*/run.json"))
    if names != sorted(JOBS):
        raise Fault(f"the sweep has the runs {names}")
    for name in JOBS:
        tiny_sweep.compare(folder / SWEEP / name, uninterrupted[name])
    before = _digests(folder)
    status, said = _type(launcher, folder)
    if status or f"{len(JOBS)} done before" not in said or _digests(folder) != before:
        raise Fault(f"a complete sweep must do nothing; status {status}: {said}")
    left = [path.name for path in (folder / SWEEP).iterdir() if ".partial-" in path.name]
    if left:
        raise Fault(f"the sweep's folder contains {left}")
    shutil.rmtree(folder)
    return kills


def _kill(launcher: list[str], folder: Path, chance: random.Random) -> int:
    """Start the sweep, and kill one of its processes at a random moment; 1 if it was still running."""
    progress = chance.choice(["start", "run.json", "metrics.csv", "last.ckpt"])
    delay, of_worker = chance.uniform(0, 2.5), chance.random() < 0.3
    before = {path: path.stat().st_mtime_ns for path in _files(folder, progress)}
    process = _start(launcher, folder)
    while process.poll() is None and progress != "start":
        if any(path.stat().st_mtime_ns != before.get(path) for path in _files(folder, progress)):
            break
        time.sleep(0.02)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=delay)
        return 0
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    victim = int(chance.choice(children)) if of_worker and children else process.pid
    with contextlib.suppress(ProcessLookupError):
        os.kill(victim, signal.SIGKILL)
    process.wait(timeout=300)  # a sweep whose worker is killed continues with the other runs
    _check_words((folder / "said").read_text(errors="replace"))
    return 1


def _files(folder: Path, name: str) -> list[Path]:
    pattern = f"*/checkpoints/{name}" if name.endswith(".ckpt") else f"*/{name}"
    return list((folder / SWEEP).glob(pattern))


def _check_done(folder: Path, done: dict[str, str]) -> None:
    """Note which runs are done; raise Fault if the record of such a run has changed since."""
    for path in (folder / SWEEP).glob("*/run.json"):
        content = path.read_text(encoding="utf-8")
        if done.setdefault(path.parent.name, content) != content:
            raise Fault(f"{path.parent.name} was done and was run again")
        if json.loads(content)["state"] != "done":
            del done[path.parent.name]


def _digests(folder: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (folder / SWEEP).rglob("*")
        if path.is_file() and path.name != ".alive"
    }


def _type(launcher: list[str], folder: Path) -> tuple[int, str]:
    process = _start(launcher, folder)
    try:
        process.wait(timeout=600)
    except subprocess.TimeoutExpired:
        process.kill()
        raise Fault("the sweep did not end") from None
    said = (folder / "said").read_text(errors="replace")
    _check_words(said)
    return process.returncode, said


def _start(launcher: list[str], folder: Path) -> subprocess.Popen:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "said").open("w") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "densenet_cli.commands.run", *WORDS, *launcher],
            cwd=folder,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _check_words(said: str) -> None:
    if any(trace in said for trace in TRACES):
        raise Fault(f"a traceback:\n{said[-4000:]}")
