"""A sweep of 1,000 runs: how long its commands take, how much memory, and how large its report is.

Run by `python tests/benchmarks/bench_sweeps.py [FOLDER]`. The sweep is composed first. Then records of
all its runs are made in FOLDER (by default one that is removed afterwards), and each command is typed
as a user would who comes back to the finished sweep. Ends with status 1 beyond the limits.
"""

from __future__ import annotations

import json
import math
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from example_record import fields

from densenet_cli.config import resolvers
from densenet_cli.config.compose import composing
from densenet_cli.sweep.jobs import Job, Sweep, compose_sweep, save_sweep

GROWTH_RATES, RATES = range(4, 24), [round(0.005 * step, 3) for step in range(1, 51)]
WORDS = [
    "experiment=quickstart",
    f"model.growth_rate={','.join(map(str, GROWTH_RATES))}",
    f"recipe.optimizer.lr={','.join(map(str, RATES))}",
]
RUNS = len(GROWTH_RATES) * len(RATES)  # each of them a setting of its own, which is the harder case
EPOCHS = 20
COMPOSED_S, AGAIN_S, OTHER_S = 10.0, 15.0, 30.0
REPORT_BYTES = 10e6


def composed() -> Sweep:
    """The sweep, and the seconds that composing it takes on the standard output."""
    began, busy = time.monotonic(), time.process_time()
    with composing() as own:
        sweep = compose_sweep([*own, *WORDS])
    seconds, busy = time.monotonic() - began, time.process_time() - busy
    print(f"{f'{len(sweep.jobs):,} runs composed':<60} {seconds:6.2f} s {busy:6.2f} s", flush=True)
    return sweep


def write_record(job: Job) -> None:
    """A finished run with its learning curve; over the grid the errors have a minimum."""
    chance = random.Random(job.identity)
    growth_rate, rate = job.config["model"]["growth_rate"], job.config["recipe"]["optimizer"]["lr"]
    error = 1 + 20 / growth_rate + 2 * math.log(rate / 0.1) ** 2 + chance.gauss(0, 0.2)
    record = fields(round(max(error, 0.1), 2), config=job.config, seed=job.config["seed"])
    record |= {"identity": job.identity, "overrides": job.overrides, "epoch": EPOCHS, "epochs": EPOCHS}
    record |= {"parameters": 1000 * growth_rate**2, "multiply_adds": 90_000 * growth_rate**2}
    record |= {"seconds": 20.0 + growth_rate, "train_seconds": 15.0 + growth_rate}
    record["data"] |= {"name": "digits", "image_size": [8, 8]}
    job.folder.mkdir(parents=True)
    (job.folder / "run.json").write_text(json.dumps(record, indent=2))
    rows = [
        f"{epoch},{2 / epoch:.4f},{error * (1 + 8 / epoch):.2f},1.5" for epoch in range(1, EPOCHS + 1)
    ]
    (job.folder / "metrics.csv").write_text(
        "\n".join(["epoch,train_loss,test_error,seconds", *rows, ""])
    )


def typed(folder: Path, *words: str) -> dict[str, Any]:
    """Run a command in a folder: its seconds, seconds of a processor, peak resident bytes, output."""
    command = [sys.executable, "-m", f"densenet_cli.commands.{words[0]}", *words[1:]]
    with tempfile.TemporaryFile("w+") as output:
        began = time.monotonic()
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
        output.seek(0)
        text = output.read()
    assert status == 0, f"{' '.join(words)} ended with status {status}: {text[-2000:]}"
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    busy = usage.ru_utime + usage.ru_stime
    columns = f"{seconds:6.2f} s {busy:6.2f} s {peak / 1e6:6.0f} MB"
    print(f"{' '.join(words)[:60]:<60} {columns}", flush=True)
    return {"seconds": seconds, "text": text}


def svg_elements(page: str) -> dict[str, int]:
    """The number of elements in each figure of the report."""
    figures = re.findall(r'<section id="(\w+)"[^>]*>\s*<h2[^>]*>[^<]*</h2>\s*<figure>(.*?)</figure>',
                         page, re.DOTALL)  # fmt: skip
    return {name: len(re.findall(r"<\w", figure)) for name, figure in figures}


def measure(folder: Path) -> bool:
    """Type each command; whether all are within the limits."""
    os.chdir(folder)
    print(f"{'':<60} {'time':>8} {'CPU':>8} {'memory':>9}")
    typed(folder, "run", "--help")  # what any command takes
    began = time.monotonic()
    sweep = composed()
    is_fast = time.monotonic() - began <= COMPOSED_S
    save_sweep(sweep)
    for job in sweep.jobs:
        write_record(job)
    place = str(sweep.folder)
    again = typed(folder, "run", "--multirun", *WORDS)
    assert f"{RUNS:,} runs: {RUNS} done before".replace(",", "") in again["text"].replace(",", "")
    others = [
        typed(folder, "run", f"resume={place}"),
        typed(folder, "run", "--multirun", *WORDS, "plan=true"),
        typed(folder, "results", "watch", place, "--once"),
        typed(folder, "results", "table", place),
        typed(folder, "results", "table", place, "--format", "json"),
        typed(folder, "results", "plot", place, "--output", "figures"),
        typed(folder, "results", "report", place),
    ]
    page = (folder / "report.html").read_text(encoding="utf-8")
    print(f"report.html: {len(page.encode()) / 1e6:.2f} MB; elements of its figures:")
    for name, number in svg_elements(page).items():
        print(f"  {name:<20} {number:>6,}")
    return (
        is_fast
        and again["seconds"] <= AGAIN_S
        and all(one["seconds"] <= OTHER_S for one in others)
        and len(page.encode()) <= REPORT_BYTES
    )


def main() -> None:
    """Measure in the folder that was named, or in one that is removed."""
    resolvers.register()
    if len(sys.argv) > 1:
        folder = Path(sys.argv[1]).resolve()
        folder.mkdir(parents=True)
        sys.exit(not measure(folder))
    with tempfile.TemporaryDirectory() as name:
        sys.exit(not measure(Path(name)))


if __name__ == "__main__":
    main()
