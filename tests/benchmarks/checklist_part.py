"""What a part of the checklist for GPUs is given, and where it leaves what it has found."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from densenet_cli.files.atomic_file import replace_file

Result = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """What a part is given.

    Args:
        folder: for its results.
        device: "cuda", or "cpu" to try the checklist where there is no GPU.
        small: tiny networks and few images, which says nothing about speed.
        until: when the part is stopped, by the clock of time.time.
        data_root: the folder of the real CIFAR-10; None: random images of its shape.
        paper: the folder of the paper's run.
        overrides: of densenet-run, for the parts that use it.
    """

    folder: Path
    device: str
    small: bool
    until: float
    data_root: Path | None
    paper: Path
    overrides: tuple[str, ...]

    @property
    def seconds_left(self) -> float:
        """Seconds until the part is stopped."""
        return self.until - time.time()

    def path(self, part: str, ending: str) -> Path:
        """The file of a part's results (json) or of what it prints (txt)."""
        return self.folder / "parts" / f"{part}.{ending}"

    def keep(self, part: str, result: Result) -> None:
        """Store what a part has found so far; it may be stopped at any time."""
        replace_file(self.path(part, "json"), json.dumps(result, indent=1) + "\n")

    def kept(self, part: str) -> Result:
        """What a part has found; {} if nothing."""
        path = self.path(part, "json")
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
