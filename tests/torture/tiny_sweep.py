"""The small runs used here, and whether two of them have left the same files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from case import Fault

# With checkpoints within epochs, and held-out images, so that best.ckpt and last.ckpt differ.
WORDS = [
    *("experiment=quickstart", "model.depth=10", "model.growth_rate=4", "model.dropout=0.1"),
    *("epochs=2", "data.validation=99", "trainer=cpu", "next_steps=[]", "checkpoint_minutes=0.00001"),
]


def left(folder: Path) -> dict[str, Any]:
    """What a finished run has written, without its speed. Raises Fault if the run is not done."""
    try:
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        rows = (folder / "metrics.csv").read_text(encoding="utf-8").splitlines()
        outcomes = json.loads((folder / "outcomes.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise Fault(f"{folder.name} has no record: {error}") from error
    if record["state"] != "done":
        raise Fault(f"{folder.name} is {record['state']}: {record.get('error')}")
    found = {
        "results": record["results"],
        "outcomes": outcomes,
        "rows": [row.rsplit(",", 2)[0] for row in rows],
    }
    for name in ("last", "best"):
        checkpoint = torch.load(folder / f"checkpoints/{name}.ckpt", weights_only=True)
        found |= {f"{name}/{key}": value for key, value in checkpoint["state_dict"].items()}
        for number, state in checkpoint["optimizer_states"][0]["state"].items():
            found |= {f"{name}/optimizer/{number}/{key}": value for key, value in state.items()}
    return found


def compare(folder: Path, uninterrupted: dict[str, Any]) -> None:
    """Raise Fault unless a run has written the same bits as the uninterrupted one, and nothing else."""
    found = left(folder)
    if found.keys() != uninterrupted.keys():
        raise Fault(
            f"{folder.name} has other tensors: {sorted(found.keys() ^ uninterrupted.keys())[:3]}"
        )
    for name, value in uninterrupted.items():
        same = torch.equal(value, found[name]) if torch.is_tensor(value) else value == found[name]
        if not same:
            raise Fault(f"{folder.name} differs from the uninterrupted run in {name}")
    more = [str(path.relative_to(folder)) for path in folder.rglob("*") if _is_left_over(path)]
    if more:
        raise Fault(f"{folder.name} contains files of a dead process: {' '.join(more)}")


def _is_left_over(path: Path) -> bool:
    return ".partial-" in path.name or path.name.startswith(".job-") or "-before" in path.name
