"""The runs that are tortured, what they leave, and whether two of them left the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from case import Fault

# Checkpoints within epochs too, and a best.ckpt beside the last.ckpt.
WORDS = [
    *("experiment=quickstart", "model.depth=10", "model.growth_rate=4", "model.dropout=0.1"),
    *("epochs=2", "data.validation=99", "trainer=cpu", "next_steps=[]", "checkpoint_minutes=0.00001"),
]


def left(folder: Path) -> dict[str, Any]:
    """What a finished run left that does not depend on its speed. Raises Fault if it is not done."""
    try:
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        rows = (folder / "metrics.csv").read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise Fault(f"{folder.name} has no record: {error}") from error
    if record["state"] != "done":
        raise Fault(f"{folder.name} is {record['state']}: {record.get('error')}")
    found = {"results": record["results"], "rows": [row.rsplit(",", 2)[0] for row in rows]}
    for name in ("last", "best"):
        checkpoint = torch.load(folder / f"checkpoints/{name}.ckpt", weights_only=True)
        found |= {f"{name}/{key}": value for key, value in checkpoint["state_dict"].items()}
        for number, state in checkpoint["optimizer_states"][0]["state"].items():
            found |= {f"{name}/optimizer/{number}/{key}": value for key, value in state.items()}
    return found


def compare(folder: Path, unbroken: dict[str, Any]) -> None:
    """Raise Fault unless a run left, to the bit, what the unbroken one did, and nothing besides."""
    found = left(folder)
    if found.keys() != unbroken.keys():
        raise Fault(f"{folder.name} left {sorted(found.keys() ^ unbroken.keys())[:3]} more or less")
    for name, value in unbroken.items():
        same = torch.equal(value, found[name]) if torch.is_tensor(value) else value == found[name]
        if not same:
            raise Fault(f"{folder.name} differs from the unbroken run: {name}")
    more = [str(path.relative_to(folder)) for path in folder.rglob("*") if _is_left_over(path)]
    if more:
        raise Fault(f"{folder.name} holds what a dead process left: {' '.join(more)}")


def _is_left_over(path: Path) -> bool:
    return ".partial-" in path.name or path.name.startswith(".job-") or "-before" in path.name
