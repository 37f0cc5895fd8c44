"""densenet-run itself on a GPU: its images per second in two epochs, and the paper's run."""

from __future__ import annotations

import csv
import json
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import step_times
from checklist_part import Result, Setting
from networks import TINY

SHARE = 0.9  # least part of the step benchmark's images per second that the command must reach
SAVING_S = 15.0  # for a run to save its state after a signal
LEAST_S = 45.0  # for less the paper's run is not begun
RUN = [sys.executable, "-m", "densenet_cli.commands.run"]
PAPER = ["model=densenet_bc_100", "data=cifar10"]
SMALL = [
    *("model=densenet_bc", "model.growth_rate=4", "model.depth=10", "data=cifar10"),
    f"data.batch_size={TINY.batch}",
]


def measure_command(setting: Setting) -> bool:
    """Two epochs as the command comes, and with fused kernels if that does not choose them."""
    with tempfile.TemporaryDirectory() as scratch:
        return _measure_command(setting, Path(scratch))


def _measure_command(setting: Setting, scratch: Path) -> bool:
    rows = 8 if setting.small else 10_000
    root = setting.data_root or random_cifar(scratch / "random-cifar", rows)
    words = [*_network(setting), f"data.root={root}", "data.download=false", *_unverified(setting)]
    found: Result = {}
    for name in ("auto", "fused"):
        if name == "fused" and found["auto"].get("implementation") == "fused":
            break
        folder = scratch / name
        chosen = [*words, "epochs=2", "next_steps=[]", f"trainer.implementation={name}"]
        began = time.monotonic()
        status = subprocess.run([*RUN, *chosen, f"hydra.run.dir={folder}"], check=False).returncode
        found[name] = {"exit_status": status, "seconds": time.monotonic() - began, **read(folder)}
        _compare(found[name], setting.kept("steps"))
        setting.keep("command", found)
    return all(one["exit_status"] == 0 for one in found.values()) and (
        setting.small or all(one.get("share", 1.0) >= SHARE for one in found.values())
    )


def lines_of_command(found: Result) -> list[str]:
    """One line for each implementation that was tried."""
    said = []
    for name, one in found.items():
        if one["exit_status"] or not one["epochs"]:
            said.append(f"implementation={name}: failed with status {one['exit_status']}")
            continue
        share = one.get("share")
        beside = "" if share is None else f", {100 * share:.0f} % of the step benchmark's"
        verdict = f", LESS THAN {100 * SHARE:.0f} %" if share is not None and share < SHARE else ""
        said.append(
            f"implementation={name} ({one['implementation']}, CUDA graphs {one['cuda_graphs']}): "
            f"{one['epochs'][-1]['images_per_second']:,.0f} images/s in the last epoch"
            f"{beside}{verdict}; {one['seconds']:.0f} s in all"
        )
    return said


def measure_paper(setting: Setting) -> bool:
    """Begin or resume the paper's run, and stop it when the time is over; whether it can go on."""
    setting.keep("paper", {"begun": False, "seconds_left": setting.seconds_left})
    if setting.seconds_left < (1.0 if setting.small else LEAST_S) + SAVING_S:
        return True
    root = [] if setting.data_root is None else [f"data.root={setting.data_root}"]
    if setting.small:
        root += _unverified(setting)
    if (setting.paper / "run.json").exists():
        words = [f"resume={setting.paper}", *(word for word in root if word.startswith("data.root="))]
    else:
        words = [*_network(setting), *root, f"hydra.run.dir={setting.paper}"]
    began = time.monotonic()
    process = subprocess.Popen([*RUN, *words])
    try:
        process.wait(setting.seconds_left - SAVING_S)
    except subprocess.TimeoutExpired:
        pass
    finally:
        process.terminate()  # it saves its state, also if this process is asked to end
        status = process.wait()
    found = {"begun": True, "exit_status": status, "seconds": time.monotonic() - began}
    setting.keep("paper", {**found, **read(setting.paper)})
    return status in (0, 128 + signal.SIGTERM)


def lines_of_paper(found: Result) -> list[str]:
    """How far the run is."""
    if not found.get("begun", True):
        left = f"{max(0.0, found['seconds_left']):.0f} s were left"
        return [f"not begun, {left}; --minutes 14 gives it some seven minutes"]
    if not found.get("epochs"):
        return []
    last = found["epochs"][-1]
    return [
        f"{found['state']}: epoch {last['epoch']:.0f} of {found['total']}, test error "
        f"{last['test_error']:.2f} %, {last['images_per_second']:,.0f} images/s"
    ]


def random_cifar(root: Path, rows: int) -> Path:
    """A folder with files of CIFAR-10's layout and random images, `rows` in each."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True, exist_ok=True)
    chance = np.random.default_rng(0)
    for name in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]:
        images = chance.integers(0, 256, (rows, 3072), dtype=np.uint8)
        labels = chance.integers(0, 10, rows).tolist()
        (folder / name).write_bytes(pickle.dumps({"data": images, "labels": labels}))
    names = {"label_names": [str(number) for number in range(10)]}
    (folder / "batches.meta").write_bytes(pickle.dumps(names))
    return root


def _network(setting: Setting) -> list[str]:
    chosen = SMALL if setting.small else PAPER
    accelerator = "gpu" if setting.device == "cuda" else "cpu"
    return [*chosen, f"trainer.accelerator={accelerator}", *setting.overrides]


def _unverified(setting: Setting) -> list[str]:
    """What random images need, which do not have the official checksums."""
    return ["data.verify=false"] if setting.small or setting.data_root is None else []


def read(folder: Path) -> Result:
    """What a run's record says, as far as it got."""
    path = folder / "run.json"
    record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    rows = folder / "metrics.csv"
    epochs = list(csv.DictReader(rows.open(encoding="utf-8"))) if rows.exists() else []
    return {
        "state": record.get("state"),
        "implementation": record.get("implementation"),
        "cuda_graphs": record.get("cuda_graphs"),
        "precision": record.get("precision"),
        "results": record.get("results"),
        "total": record.get("epochs"),
        "epochs": [{name: float(cell) for name, cell in row.items() if cell} for row in epochs],
    }


def _compare(one: Result, steps: Result) -> None:
    """Add the share of the images per second that the benchmark's steps alone would allow."""
    column = "fused, recorded" if one["implementation"] == "fused" else "modules, recorded"
    if not one["cuda_graphs"]:
        column = "modules"
    for name, results in steps.items():
        network = TINY if name == step_times.name_of(TINY) else step_times.MEASURED[0]
        if name == step_times.name_of(network) and "seconds" in results[column] and one["epochs"]:
            alone = network.batch / results[column]["seconds"]
            one["share"] = one["epochs"][-1]["images_per_second"] / alone
