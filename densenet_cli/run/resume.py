"""Whether a folder holds a run already, and the record with which a run starts or resumes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from densenet_cli.options import UserError
from densenet_cli.process import ranks
from densenet_cli.record.identity import identity
from densenet_cli.record.run_record import Begin, RunRecord, last_checkpoint, write_config
from densenet_cli.run import summary

log = logging.getLogger(__name__)


def is_resumed(folder: Path, config: dict[str, Any], begin: Begin) -> bool:
    """Whether the run in a folder is resumed; False if the folder holds none yet.

    Args:
        folder: the run's folder; it exists.
        config: the resolved configuration.
        begin: see `execute`.

    Raises:
        UserError: the folder holds a run that must not be resumed.
    """
    if not (folder / "run.json").exists():
        return begin == "resume"
    if not ranks.is_first_process():
        return begin != "new"
    record = RunRecord.read(folder)
    if begin == "resume":
        if record.fields["state"] == "pruned":
            raise UserError(
                f"{folder} was ended early by its search, and keeps no checkpoint; to train it in "
                "full, run its overrides on their own (they are in overrides.yaml)"
            )
        return True
    if begin == "new":
        raise UserError(
            f"{folder} holds a run already ({record.fields['state']}); resume it by resume={folder}, "
            "delete it, or choose another folder by hydra.run.dir="
        )
    if record.identity != identity(config):
        raise UserError(f"{folder} holds a run of another configuration, which is left as it is")
    return True


def open_record(folder: Path, config: dict[str, Any], overrides: list[str], resumed: bool) -> RunRecord:
    """The record of a run that starts or resumes; it is written by the first process only."""
    if not ranks.is_first_process():
        return RunRecord.read(folder) if resumed else RunRecord(folder, {})
    if not resumed:
        write_config(folder, config, overrides)
        return RunRecord.create(folder, config, overrides)
    record = RunRecord.read(folder)
    if record.fields["state"] in ("done", "pruned"):
        return record
    if last_checkpoint(folder).exists():
        record.fields.pop("error", None)
        times = record.fields.get("resumed", 0) + 1
        record.update(state="running", resumed=times, identity=record.identity)
        return record
    return _restarted(record)


def _restarted(record: RunRecord) -> RunRecord:
    """A new record for a run that has no checkpoint: time and environment are those of the new start.

    How long it trains under its budget stays as it was. The configuration typed now is recorded later,
    once it has been checked.
    """
    fields, begun = record.fields, record.identity
    _set_aside(record.folder, fields)
    # What is kept is so at every moment: other processes read it too.
    kept = {"identity": begun} | {name: fields[name] for name in ("budget",) if name in fields}
    return RunRecord.create(record.folder, fields["config"], fields["overrides"], **kept)


def _set_aside(folder: Path, fields: dict[str, Any]) -> None:
    """Rename what is left of a run that cannot be resumed, and log it.

    A run has a checkpoint after its first epoch, so somebody must have deleted it. What is left of an
    interrupted first epoch is deleted: the epoch is trained again.
    """
    last = last_checkpoint(folder)
    left = [path for path in (folder / "metrics.csv", last.with_name("best.ckpt")) if path.exists()]
    if (fields.get("epoch") or 0) <= 1:
        for path in left:
            path.unlink()
        return
    for path in left:
        path.replace(path.with_stem(f"{path.stem}-before"))
    log.warning(
        "there is no %s, so the run starts again; what is left of %d of %d epochs is named *-before.*",
        summary.relative(last),
        fields["epoch"],
        fields["epochs"],
    )
