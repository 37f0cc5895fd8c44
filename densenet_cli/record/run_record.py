"""What one run leaves on disk: run.json, metrics.csv, config.yaml, overrides.yaml, run.log.

A run's folder:
    config.yaml       the resolved configuration
    overrides.yaml    the overrides typed on the command line
    run.json          state, results, cost, environment; rewritten at every change
    metrics.csv       one row per epoch
    outcomes.json     which test images were classified correctly: see outcomes.py
    skipped.json      images that could not be read: see skipped_images.py
    run.log           messages; the traceback of a failure
    checkpoints/      last.ckpt, best.ckpt

Every file except the log is replaced atomically, so that a kill at any moment leaves the old file or
the new one, never a part of it.
"""

from __future__ import annotations

import json
import socket
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import yaml

from densenet_cli.files.atomic_file import remove_partials, replace_file
from densenet_cli.files.csv_file import csv_text
from densenet_cli.files.json_document import finite
from densenet_cli.files.plain_file import UnreadableFile, read_json, read_yaml
from densenet_cli.options import UserError
from densenet_cli.record import schema
from densenet_cli.record.environment import git_commit, versions
from densenet_cli.record.identity import identity

FORMAT = 1  # of run.json; raised when a key changes its meaning
Begin = Literal["new", "resume", "either"]  # what to do with a folder; either: resume if it has a run


class RunRecord:
    """The record of one run in `folder`; `fields` is the content of run.json.

    `state` is one of running, done, failed, interrupted, pruned. A pruned run is a trial that its
    search ended early: it has epochs, but no results and no checkpoints. The state of a run that was
    killed stays "running", but no process has locked its folder.
    """

    def __init__(self, folder: Path, fields: dict[str, Any]) -> None:
        self.folder, self.fields = folder, fields

    @classmethod
    def read(cls, folder: Path) -> RunRecord:
        """The record in a folder, checked against the schema, so that callers need no checks.

        Raises:
            UnreadableFile: if there is none, or the file is not the record of a run.
        """
        path = folder / "run.json"
        try:
            fields = read_json(path)
        except FileNotFoundError:
            raise UnreadableFile(folder, "contains no run: there is no run.json in it") from None
        if not isinstance(fields, dict) or fields.get("format") != FORMAT:
            raise UnreadableFile(path, f"is not a record of densenet-run (format {FORMAT})")
        if fault := schema.check_record(fields):
            raise UnreadableFile(path, fault)
        return cls(folder, fields)

    @classmethod
    def create(
        cls, folder: Path, config: dict[str, Any], overrides: list[str], **fields: Any
    ) -> RunRecord:
        """The record of a new run, with further fields if given, already written to the disk."""
        record = cls(folder, {"format": FORMAT, "state": "running", "results": {}})
        record.update(
            overrides=overrides,
            config=config,
            seed=config.get("seed"),
            git=git_commit(Path(__file__).parent),
            versions=versions(),
            host=socket.gethostname(),
            started=now(),
            **fields,
        )
        return record

    @property
    def identity(self) -> str:
        """The identity of the configuration with which the run began; its device may have changed."""
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


def read_config(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """The resolved configuration of a run, and the overrides typed for it.

    Raises:
        UserError: if the folder does not contain them.
    """
    if folder.is_file():
        raise UserError(f"{folder} is a file: name the folder of a run, such as outputs/DATE/TIME")
    if not folder.exists():
        rule = "there is no such folder; name that of a run or a sweep, such as outputs/DATE/TIME"
        raise UserError(f"{folder}: {rule}")
    try:
        config, overrides = (read_yaml(folder / name) for name in ("config.yaml", "overrides.yaml"))
        schema.check_config(config)
        if fault := schema.check_overrides(overrides):
            raise UnreadableFile(folder / "overrides.yaml", fault)
    except FileNotFoundError as error:
        missing = Path(error.filename).name
        raise UserError(f"{folder} contains no configuration of a run: there is no {missing}") from None
    except UserError as error:
        raise UserError(f"{folder} contains no configuration of a run: {error}") from None
    return config, overrides


def last_checkpoint(folder: Path) -> Path:
    """The checkpoint from which a run is resumed."""
    return folder / "checkpoints" / "last.ckpt"


def reported_checkpoint(fields: dict[str, Any]) -> str | None:
    """The checkpoint to which a run's results belong: "last" or "best"; None if it trained none.

    A finished run has recorded it in results.reported. In an unfinished run, and in the records of
    outputs/study, which lack this field, it is the recipe's choice; but best.ckpt only counts if
    validation images chose it.

    Args:
        fields: the content of run.json.
    """
    results, config = fields.get("results") or {}, fields["config"]
    if config.get("task") == "test":
        return None
    if (known := results.get("reported")) in ("last", "best"):
        return known
    validation_images = ((fields.get("data") or {}).get("sizes") or {}).get("validation")
    has_best = results.get("best_epoch", "not known yet") is not None
    is_best = config["recipe"].get("report") == "best" and validation_images and has_best
    return "best" if is_best else "last"


def remove_temporary_files(folder: Path) -> None:
    """Remove what a process that died left half-written in a run's folder, which must be locked."""
    last = last_checkpoint(folder)
    documents = ("run.json", "metrics.csv", "outcomes.json", "skipped.json")
    names = (*documents, "config.yaml", "overrides.yaml")
    for path in (*(folder / name for name in names), last, last.with_name("best.ckpt")):
        remove_partials(path)


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.fromtimestamp(time.time(), timezone.utc).isoformat(timespec="seconds")
