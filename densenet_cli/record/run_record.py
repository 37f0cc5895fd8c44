"""What one run leaves on disk: run.json, metrics.csv, config.yaml, overrides.yaml, run.log.

A run's folder:
    config.yaml       the resolved configuration
    overrides.yaml    the words typed on the command line
    run.json          state, results, cost, environment: rewritten whole at every change
    metrics.csv       one row an epoch
    run.log           messages; the traceback of a failure
    checkpoints/      last.ckpt, best.ckpt

Every file but the log is replaced as a whole, so that a kill at any moment leaves the old one or the
new one, never a half.
"""

from __future__ import annotations

import contextlib
import json
import math
import platform
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import yaml

from densenet_cli.files import atomic_file
from densenet_cli.files.atomic_file import replace_file
from densenet_cli.files.csv_file import csv_text
from densenet_cli.files.plain_file import UnreadableFile, read_json, read_yaml
from densenet_cli.options import UserError
from densenet_cli.record import schema
from densenet_cli.record.identity import identity

FORMAT = 1  # of run.json; raised when a key changes its meaning
Begin = Literal["new", "resume", "either"]  # a run in its folder; either: resume it if it is there
PACKAGES = ("densenet-cli", "torch", "torchvision", "lightning", "torchmetrics", "hydra-core")


class RunRecord:
    """The record of one run in `folder`; `fields` is what run.json holds.

    `state` is one of running, done, failed, interrupted. A run that was killed stays "running" while
    nobody holds its lock.
    """

    def __init__(self, folder: Path, fields: dict[str, Any]) -> None:
        self.folder, self.fields = folder, fields

    @classmethod
    def read(cls, folder: Path) -> RunRecord:
        """The record in a folder, checked against the schema: who uses it need check nothing again.

        Raises:
            UnreadableFile: there is none, or it is no record of a run.
        """
        path = folder / "run.json"
        try:
            fields = read_json(path)
        except FileNotFoundError:
            raise UnreadableFile(folder, "holds no run: there is no run.json in it") from None
        if not isinstance(fields, dict) or fields.get("format") != FORMAT:
            raise UnreadableFile(path, f"is not a record of densenet-run (format {FORMAT})")
        if fault := schema.check_record(fields):
            raise UnreadableFile(path, fault)
        return cls(folder, fields)

    @classmethod
    def create(cls, folder: Path, config: dict[str, Any], overrides: list[str]) -> RunRecord:
        """The record of a new run, already on disk."""
        record = cls(folder, {"format": FORMAT, "state": "running", "results": {}})
        record.update(
            overrides=overrides,
            config=config,
            seed=config.get("seed"),
            git=git_commit(Path(__file__).parent),
            versions=versions(),
            host=socket.gethostname(),
            started=now(),
        )
        return record

    @property
    def identity(self) -> str:
        """That of the configuration which the run began with; its device may have changed since."""
        return self.fields.get("identity") or identity(self.fields["config"])

    def update(self, **fields: Any) -> None:
        """Set fields and write run.json."""
        self.fields.update(fields, updated=now())
        text = json.dumps(finite(self.fields), indent=2, ensure_ascii=False)
        replace_file(self.folder / "run.json", text + "\n")

    def write_metrics(self, rows: list[dict[str, Any]]) -> None:
        """Write metrics.csv, one row per epoch."""
        replace_file(self.folder / "metrics.csv", csv_text(rows))


def write_config(folder: Path, config: dict[str, Any], overrides: list[str]) -> None:
    """Write config.yaml and overrides.yaml."""
    replace_file(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False))
    replace_file(folder / "overrides.yaml", yaml.safe_dump(overrides))


def last_checkpoint(folder: Path) -> Path:
    """Where a run saves what it can go on from."""
    return folder / "checkpoints" / "last.ckpt"


def reported(fields: dict[str, Any]) -> str | None:
    """Which checkpoint of a run its results are of: "last" or "best"; None if it trained none.

    A finished run has recorded it. For an unfinished run, and in records older than that field, it is
    the recipe's choice; but best.ckpt counts only where held-out images chose it.

    Args:
        fields: the content of run.json.
    """
    results, config = fields.get("results") or {}, fields["config"]
    if config.get("task") == "test":
        return None
    if (known := results.get("reported")) in ("last", "best"):
        return known
    held_out = ((fields.get("data") or {}).get("sizes") or {}).get("validation")
    chosen = results.get("best_epoch", "not known yet") is not None
    return "best" if config["recipe"].get("report") == "best" and held_out and chosen else "last"


def remove_partials(folder: Path) -> None:
    """Remove what a process that died has left half-written in a run's folder; for its holder only."""
    last = last_checkpoint(folder)
    names = ("run.json", "metrics.csv", "config.yaml", "overrides.yaml")
    for path in (*(folder / name for name in names), last, last.with_name("best.ckpt")):
        atomic_file.remove_partials(path)


def read_config(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """The resolved configuration of a run, and the words typed for it.

    Raises:
        UserError: if the folder holds none.
    """
    if folder.is_file():
        raise UserError(f"{folder} is a file: name the folder of a run, as outputs/DATE/TIME")
    if not folder.exists():
        rule = "there is no such folder; name that of a run or of a sweep, as outputs/DATE/TIME"
        raise UserError(f"{folder}: {rule}")
    try:
        config, overrides = (read_yaml(folder / name) for name in ("config.yaml", "overrides.yaml"))
        schema.check(config)
        if fault := schema.check_overrides(overrides):
            raise UnreadableFile(folder / "overrides.yaml", fault)
    except FileNotFoundError as error:
        missing = Path(error.filename).name
        raise UserError(f"{folder} holds no configuration of a run: there is no {missing}") from None
    except UserError as error:
        raise UserError(f"{folder} holds no configuration of a run: {error}") from None
    return config, overrides


def finite(value: Any) -> Any:
    """The value with NaN and infinities as null, which JSON has no word for."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.fromtimestamp(time.time(), timezone.utc).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages a result depends on."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_commit(folder: Path) -> str | None:
    """The commit of the checkout that `folder` lies in, with "+" if files differ from it."""
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--dirty=+"]
    try:
        answer = subprocess.run(
            [*command, "--exclude=*"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None


def reset_peak_memory() -> bool:
    """Forget how much memory this process held before; False where the system can't."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # Linux, see proc(5)
    except OSError:
        return False
    return True


def peak_memory_bytes() -> int:
    """The largest memory (resident set) this process has held since the reset, in bytes."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM:")))
    # Also what a larger process held that started this one.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
