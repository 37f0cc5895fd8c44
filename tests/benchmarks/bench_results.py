"""How long `densenet-results table` takes over 10,000 records, and how much memory.

Run by `python tests/benchmarks/bench_results.py`. Prints both; ends with status 1 beyond the limits.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from example_record import fields

SETTINGS, SEEDS = 2000, 5
CLASSES = [f"class_{index:03}" for index in range(100)]  # as long as those of CIFAR-100
LIMIT_S, LIMIT_BYTES = 10.0, 1 << 30


def write_records(folder: Path) -> None:
    """2,000 settings of 5 seeds, in the folders of 20 sweeps; most differ in four options."""
    for index in range(SETTINGS):
        for seed in range(SEEDS):
            record = fields(
                20 + index % 97 / 10 + seed / 10,
                seed=seed,
                model__growth_rate=4 + index % 40,
                model__depth=10 + 6 * (index // 40 % 10),
                model__compression=0.5 + index // 400 / 10,
                data___target_="densenet_cli.data.cifar.Cifar100",
            )
            record["data"] |= {"name": "cifar100", "num_classes": 100, "class_names": CLASSES}
            run = folder / f"sweep{index % 20}" / f"setting={index},seed={seed}"
            (run / "checkpoints").mkdir(parents=True)
            (run / "run.json").write_text(json.dumps(record, indent=2))


def measure(folder: Path, layout: str) -> tuple[float, int]:
    """Seconds and peak resident bytes of the command over a folder."""
    command = [
        sys.executable,
        "-m",
        "densenet_cli.commands.results",
        "table",
        str(folder),
        "--format",
        layout,
    ]
    with tempfile.TemporaryFile("w+") as output:
        began = time.monotonic()
        process = subprocess.Popen(command, stdout=output)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
        output.seek(0)
        lines = len(output.readlines())
    assert status == 0, f"densenet-results ended with status {status}"
    assert lines > SETTINGS, f"{lines} lines are too few for {SETTINGS} settings"
    return seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    """Measure for the terminal and as CSV."""
    with tempfile.TemporaryDirectory() as name:
        write_records(Path(name))
        found = {layout: measure(Path(name), layout) for layout in ("rich", "csv")}
    for layout, (seconds, peak) in found.items():
        print(f"{SETTINGS * SEEDS:,} records as {layout}: {seconds:.2f} s, {peak / 1e6:.0f} MB")
    sys.exit(any(seconds > LIMIT_S or peak > LIMIT_BYTES for seconds, peak in found.values()))


if __name__ == "__main__":
    main()
