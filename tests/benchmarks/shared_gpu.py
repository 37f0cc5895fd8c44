"""Several runs of a sweep on one GPU, beside one alone: what they lose by sharing it."""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
from pathlib import Path

from checklist_part import Result, Setting
from command_speed import RUN, SMALL, random_cifar, read

RUNS = 4
EPOCHS = 3  # of which the second is measured, while all runs are at work
MOST = 1.8  # times the time of one that the runs may take together
MODEL = ["model=densenet", "model.depth=40", "model.growth_rate=12", "data=cifar10"]


def measure(setting: Setting) -> bool:
    """Measure one run, and then several at once; whether all were done."""
    runs = min(RUNS, 2, len(os.sched_getaffinity(0))) if setting.small else RUNS
    found: Result = {}
    with tempfile.TemporaryDirectory() as scratch:
        root = random_cifar(Path(scratch) / "random-cifar", 8 if setting.small else 10_000)
        for number in (1, runs):
            found[str(number)] = _sweep(setting, number, Path(scratch) / f"sweep-{number}", root)
            setting.keep("sharing", found)
    return all(one["exit_status"] == 0 for one in found.values())


def lines(found: Result) -> list[str]:
    """How many times the time of one run several take."""
    said = []
    alone = found.get("1", {}).get("images_per_second")
    for number, one in found.items():
        if number == "1" or not alone or not one["images_per_second"]:
            continue
        times = statistics.mean(alone[0] / speed for speed in one["images_per_second"])
        verdict = "" if times <= MOST else f", MORE THAN {MOST}"
        service = "without" if one["takes_turns"] else "with"
        said.append(
            f"{number} runs of DenseNet (40, 12) at once: {times:.2f} times the time of one{verdict} "
            f"({service} NVIDIA's MPS): {sum(one['images_per_second']):,.0f} images/s instead of "
            f"{alone[0]:,.0f}"
        )
    return said


def _sweep(setting: Setting, number: int, folder: Path, root: Path) -> Result:
    """The images per second of each of so many runs at once."""
    accelerator = "gpu" if setting.device == "cuda" else "cpu"
    words = [*(SMALL if setting.small else MODEL), f"trainer.accelerator={accelerator}"]
    words += [f"data.root={root}", "data.download=false", "data.verify=false", f"epochs={EPOCHS}"]
    words += [f"seeds={number}", "hydra/launcher=parallel", f"hydra.launcher.jobs={number}"]
    words += ["trainer.implementation=fused", f"hydra.sweep.dir={folder}", *setting.overrides]
    one_gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]
    answer = subprocess.run(
        [*RUN, "--multirun", *words],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": one_gpu},
        capture_output=True,
        text=True,
        check=False,
    )
    print(answer.stdout, answer.stderr, flush=True)
    epochs = [read(record.parent)["epochs"] for record in sorted(folder.glob("*/run.json"))]
    return {
        "exit_status": answer.returncode,
        "takes_turns": "without NVIDIA's MPS" in answer.stderr,
        "images_per_second": [rows[1]["images_per_second"] for rows in epochs if len(rows) == EPOCHS],
    }
