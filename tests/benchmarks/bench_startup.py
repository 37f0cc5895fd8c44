"""How long one waits: for the help, and from typing the embedded job to the end of its first step.

Run by `python tests/benchmarks/bench_startup.py [TIMES]`. Prints the median and the least of each, in
seconds of the clock and of the processor (which other work on the machine hardly changes).
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

COMMAND = [sys.executable, "-m", "densenet_cli.commands.run"]
QUESTION = [*COMMAND, "--help"]
FIRST_STEP = [
    *COMMAND,
    "experiment=quickstart",
    "recipe.optimizer._target_=bench_startup.last_step",
]


def last_step(parameters: Any, **options: Any) -> Any:
    """torch.optim.SGD in the benchmarked process, which it ends after one step."""
    from torch.optim import SGD

    optimizer = SGD(parameters, **options)
    optimizer.register_step_post_hook(lambda *_: os._exit(0))
    return optimizer


def measure(command: list[str]) -> tuple[float, float]:
    """Seconds of the clock, and of the processor, until the command ends well."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
            stdout=subprocess.DEVNULL,
            check=True,
        )
    seconds = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure both in turns."""
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    found: dict[str, list[tuple[float, float]]] = {"help": [], "first step": []}
    for _ in range(times):
        found["help"].append(measure(QUESTION))
        found["first step"].append(measure(FIRST_STEP))
    for name, pairs in found.items():
        clock, processor = zip(*pairs, strict=True)
        print(
            f"{name:<10} {statistics.median(clock):.2f} s (least {min(clock):.2f}), processor "
            f"{statistics.median(processor):.2f} s (least {min(processor):.2f})"
        )


if __name__ == "__main__":
    main()
