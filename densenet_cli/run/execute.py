"""One run, safely: its folder is locked, its state recorded, and every failure is one message."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from densenet_cli.files.lock import BUSY, FolderInUse, LockLost, lock_folder
from densenet_cli.options import UserError
from densenet_cli.plain_text import printable
from densenet_cli.process import ranks
from densenet_cli.record.run_record import (
    Begin,
    RunRecord,
    last_checkpoint,
    now,
    remove_temporary_files,
)
from densenet_cli.run import other_processes, slurm, summary
from densenet_cli.run.log import logged
from densenet_cli.run.recording import Recorder
from densenet_cli.run.rehearsal import measured_length
from densenet_cli.run.resume import is_resumed, open_record
from densenet_cli.run.supervisor import PRUNED
from densenet_cli.run.train import train
from densenet_cli.training import allocator
from densenet_cli.training.interruption import Interrupted, Interruption
from densenet_cli.training.pruning import AskBetweenEpochs, Pruned

log = logging.getLogger(__name__)

GoesOn = Callable[[int], bool]  # whether a run goes on after so many epochs


def execute(
    folder: Path,
    config: dict[str, Any],
    overrides: list[str],
    begin: Begin = "new",
    goes_on: GoesOn | None = None,
) -> int:
    """Train or test as a configuration says, and record how it ended.

    Args:
        folder: the run's folder; it exists.
        config: the resolved configuration.
        overrides: the overrides typed on the command line.
        begin: "new": the folder must not contain a run yet; "resume": it must contain one, which is
            resumed from checkpoints/last.ckpt; "either": the same run is resumed if it is there.
        goes_on: asked after each epoch but the last; for the trials of a search that prunes.

    Returns:
        The exit status: 0 done, 1 failed, 75 locked by another process or lost to it, PRUNED, else one
        of INTERRUPTED.
    """
    first = ranks.is_first_process()
    try:
        with lock_folder(folder) if first else contextlib.nullcontext(lambda: None) as check:
            if first:
                remove_temporary_files(folder)
            resumed = is_resumed(folder, config, begin)
            with logged(folder, check) as file:
                status = _execute_locked(folder, config, overrides, resumed, goes_on)
        if file.fault and not status:  # a failed run has reported the disk already
            say(f"{folder / 'run.log'} lacks some messages: {file.fault.strerror or file.fault}")
        return status
    except LockLost as error:
        say(str(error))
        return BUSY if folder.is_dir() else 1
    except FolderInUse as error:
        if begin != "either":
            say(str(error))
        return BUSY
    except UserError as error:
        say(str(error))
        return 1
    except OSError as error:  # such as no space for the log
        say(f"{error.filename or folder}: cannot be made or written: {error.strerror or error}")
        return 1


def say(message: str) -> None:
    """Print a message of the command on the terminal."""
    print(printable(f"densenet-run: {message}", keep="\n"), file=sys.stderr, flush=True)


def _execute_locked(
    folder: Path,
    config: dict[str, Any],
    overrides: list[str],
    resumed: bool,
    goes_on: GoesOn | None,
) -> int:
    """Execute a run whose folder is locked; the exit status."""
    if ranks.is_first_process():
        ranks.take_message(folder)  # of an earlier attempt
    record = open_record(folder, config, overrides, resumed)
    if resumed and record.fields["state"] == "done":
        if ranks.is_first_process():
            print(f"{printable(summary.relative(folder))} is done already; its results:")
            summary.show(Console(), record.fields, folder)
        return 0
    if resumed and record.fields["state"] == "pruned":
        return _remove_checkpoints(record)
    try:
        with (
            Interruption(deferred=ranks.launcher() == "srun") as interruption,
            other_processes.watched(folder, lambda message: _report_failure(record, message, "")),
        ):
            _train_and_record(config, record, interruption, resumed, goes_on)
        return 0
    except Pruned as end:
        record.update(state="pruned", ended=now())
        log.info("pruned by its search after %d of %d epochs", end.epoch, record.fields["epochs"])
        say(f"pruned after {end.epoch} of {record.fields['epochs']} epochs")
        return _remove_checkpoints(record)
    except (Interrupted, KeyboardInterrupt) as stop:
        return _record_interruption(record, config, stop)
    except LockLost:
        raise  # nothing may be written any more
    except Exception as error:
        return _record_failure(record, error)


def _train_and_record(
    config: dict[str, Any],
    record: RunRecord,
    interruption: Interruption,
    resumed: bool,
    goes_on: GoesOn | None,
) -> None:
    allocator.keep_freed_memory()
    last = last_checkpoint(record.folder)
    with Recorder(record, resumed) as recorder:
        length = recorder.length or measured_length(config, interruption, recorder.console)
        results = train(
            config,
            record.folder,
            interruption,
            on_ready=recorder.on_ready,
            on_epoch=recorder.on_epoch,
            console=recorder.console,
            callbacks=[] if goes_on is None else [AskBetweenEpochs(goes_on)],
            resume_from=last if resumed and last.exists() else None,
            length=length,
        )
        recorder.on_end(results)


def _remove_checkpoints(record: RunRecord) -> int:
    """Remove the checkpoints of a pruned run, which is not resumed; the exit status."""
    last = last_checkpoint(record.folder)
    for path in (last, last.with_name("best.ckpt")):
        path.unlink(missing_ok=True)
    return PRUNED


def _record_interruption(
    record: RunRecord, config: dict[str, Any], stop: Interrupted | KeyboardInterrupt
) -> int:
    """Record that a signal has stopped the run, and print how to resume it; the exit status."""
    if not ranks.is_first_process():
        return 0  # else Lightning would kill the first process
    record.update(state="interrupted", ended=now())
    from densenet_cli.config.trust import trust_override  # loads Hydra's parser of overrides

    status = stop.exit_status if isinstance(stop, Interrupted) else 130
    refused = None
    if status == 128 + signal.SIGUSR1 and ranks.is_task_of_srun():
        refused = slurm.requeue()
        if refused is None:
            say("interrupted; SLURM starts the job again, which resumes it")
            return status
    again = ["densenet-run", f"resume={summary.relative(record.folder)}", *trust_override(config)]
    why = f" (SLURM does not start the job again: {refused})" if refused else ""
    say(f"interrupted; resume with: {shlex.join(again)}{why}")
    return status


def _record_failure(record: RunRecord, error: Exception) -> int:
    """Record why the run has failed, log the traceback, and print one message; the exit status."""
    log.error("failed\n%s", traceback.format_exc())
    folder, is_users = record.folder, isinstance(error, UserError)
    message = str(error) if is_users else f"{type(error).__name__}: {error}"
    cause = ranks.read_message(folder)  # another process failed first
    if cause is None and (ranks.launched_from_outside() or not ranks.is_first_process()):
        with contextlib.suppress(OSError):  # a full disk is most likely what the message says
            ranks.leave_message(folder, message)
    _report_failure(record, cause or message, "" if is_users else f" (see {folder / 'run.log'})")
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        traceback.print_exc()
    return 1


def _report_failure(record: RunRecord, message: str, where: str) -> None:
    """In the first process: record and print why the run has failed."""
    if ranks.is_first_process():
        say(message + where + _note_failure(record, message))
        if not ranks.launched_from_outside():  # else other processes need it to end
            ranks.take_message(record.folder)


def _note_failure(record: RunRecord, message: str) -> str:
    """Write the failure into the record; what to add to the message if that fails too."""
    try:
        record.update(state="failed", error=message, ended=now())
    except LockLost:
        raise
    except UserError:  # most likely for the same reason, such as a full disk
        return "; its record cannot say so"
    return ""
