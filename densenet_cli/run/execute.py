"""The spine: a configuration -> data, network, module, trainer -> a record of what came out."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from densenet_cli.files.lock import BUSY, FolderInUse, LockLost, lock_folder
from densenet_cli.models import cost
from densenet_cli.options import UserError
from densenet_cli.plain_text import first_line, printable
from densenet_cli.process import ranks
from densenet_cli.record import trained_on
from densenet_cli.record.identity import identity
from densenet_cli.record.run_record import (
    Begin,
    RunRecord,
    last_checkpoint,
    now,
    peak_memory_bytes,
    remove_partials,
    reset_peak_memory,
    write_config,
)
from densenet_cli.run import summary
from densenet_cli.run.assemble import Job, assemble
from densenet_cli.run.log import logged
from densenet_cli.training import checkpoints, devices, metrics
from densenet_cli.training.interruption import Interrupted, Interruption
from densenet_cli.training.progress import TrainingProgress

log = logging.getLogger(__name__)


def execute(folder: Path, config: dict[str, Any], overrides: list[str], begin: Begin = "new") -> int:
    """Run one job, and record how it ended.

    Args:
        folder: the run's folder; it exists.
        config: the resolved configuration.
        overrides: the words typed on the command line.
        begin: "new": the folder must hold no run yet; "resume": it must, and is gone on with from
            checkpoints/last.ckpt; "either": the same run is gone on with if the folder holds it.

    Returns:
        The exit status: 0 done, 1 failed, 75 held by another process or lost to it, else one of
        INTERRUPTED.
    """
    first = ranks.is_first_process()
    try:
        with lock_folder(folder) if first else contextlib.nullcontext(lambda: None) as check:
            if first:
                remove_partials(folder)
            resume = _holds_it(folder, config, begin)
            with logged(folder, check) as file:
                status = _execute(folder, config, overrides, resume)
        if file.fault and not status:  # else the disk is complained of already
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
    except OSError as error:  # no room for a log, for one
        say(f"{error.filename or folder}: cannot be made or written: {error.strerror or error}")
        return 1


def say(message: str) -> None:
    """Show a message of the command's own on the terminal."""
    print(printable(f"densenet-run: {message}", keep="\n"), file=sys.stderr, flush=True)


def _holds_it(folder: Path, config: dict[str, Any], begin: Begin) -> bool:
    """Whether to go on with a run that the folder holds. Raises UserError if it may not be touched."""
    if not (folder / "run.json").exists():
        return begin == "resume"
    if begin == "resume" or not ranks.is_first_process():
        return begin != "new"
    record = RunRecord.read(folder)
    if begin == "new":
        raise UserError(
            f"{folder} holds a run already ({record.fields['state']}); go on with it by "
            f"resume={folder}, or choose another folder by hydra.run.dir="
        )
    if record.identity != identity(config):
        raise UserError(f"{folder} holds a run of another configuration, which is left as it is")
    return True


def _execute(folder: Path, config: dict[str, Any], overrides: list[str], resume: bool) -> int:
    if ranks.is_first_process():
        ranks.take_message(folder)  # of an earlier attempt
        record = _record(folder, config, overrides, resume)
    else:
        record = RunRecord.read(folder) if resume else RunRecord(folder, {})
    if resume and record.fields.get("state") == "done":
        if ranks.is_first_process():
            print(f"{printable(summary.relative(folder))} is done already; its results:")
            summary.show(Console(), record.fields, folder)
        return 0
    return _recorded(config, record, resume)


def _recorded(config: dict[str, Any], record: RunRecord, resume: bool) -> int:
    """Run the job; whatever happens stands in the record, the log and the exit status."""
    first, folder = ranks.is_first_process(), record.folder
    try:
        with Interruption() as interruption:
            _run(config, record, interruption, resume)
        return 0
    except (Interrupted, KeyboardInterrupt) as stop:
        if first:
            record.update(state="interrupted", ended=now())
            from densenet_cli.config.trust import words_of_trust  # loads Hydra's parser of words

            again = ["densenet-run", f"resume={summary.relative(folder)}", *words_of_trust(config)]
            say(f"interrupted; go on with: {shlex.join(again)}")
            return stop.exit_status if isinstance(stop, Interrupted) else 130
        return 0  # Lightning kills the first process if another one ends otherwise
    except LockLost:
        raise  # nothing may be written any more
    except Exception as error:
        log.error("failed\n%s", traceback.format_exc())
        message = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        where = "" if isinstance(error, UserError) else f" (see {folder / 'run.log'})"
        if first:
            # What ended another process is the cause of what this one met.
            message = ranks.take_message(folder) or message
            say(message + where + _record_failure(record, message))
        else:
            ranks.leave_message(folder, message)
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            traceback.print_exc()
        return 1


def _record_failure(record: RunRecord, message: str) -> str:
    """Note in the record why the run failed; what to add to the message if that cannot be noted."""
    try:
        record.update(state="failed", error=message, ended=now())
    except LockLost:
        raise
    except UserError:  # most likely for the same reason, such as a full disk
        return "; its record cannot say so"
    return ""


def _run(config: dict[str, Any], record: RunRecord, interruption: Interruption, resume: bool) -> None:
    began = time.monotonic() - (record.fields.get("seconds") or 0)

    def on_epoch(progress: TrainingProgress) -> None:
        if ranks.is_first_process():
            record.write_metrics(progress.rows)
            record.update(epoch=progress.rows[-1]["epoch"], seconds=round(time.monotonic() - began, 2))

    reset_peak_memory()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    job = assemble(config, record.folder, interruption, on_epoch)
    checkpoint = _fitting_checkpoint(job) if config["task"] == "test" else None
    facts = _facts(job)
    if resume:
        _refuse_other_images(record, facts["data"])
    job.module.trained_on = facts["data"]
    before = record.fields.get("precision", facts["precision"])
    if before != facts["precision"]:
        typed = f"trainer.precision={config['trainer']['precision']}"
        text = "began in %s, goes on in %s, by %s on this device"
        log.warning(text, before, facts["precision"], typed)
    if ranks.is_first_process():
        write_config(record.folder, config, record.fields["overrides"])
        record.update(config=config, **facts)
        summary.announce(Console(), record.fields, record.folder)
    results = _train(job, resume) if checkpoint is None else _test(job, checkpoint)
    if job.trainer.is_global_zero:
        seconds = job.progress.train_seconds
        record.update(
            state="done",
            results=results,
            seconds=round(time.monotonic() - began, 2),
            train_seconds=round(seconds, 2),
            images_per_second=round(job.progress.train_images / seconds, 1) if seconds else None,
            peak_memory_bytes=_peak_memory(job),
            ended=now(),
        )
        summary.show(Console(), record.fields, record.folder)
        if config["task"] == "train":
            summary.next_steps(Console(), config["next_steps"])


def _facts(job: Job) -> dict[str, Any]:
    """What is known of a run before it trains."""
    data, network = job.data, job.module.network
    return {
        "parameters": cost.count_parameters(network),
        "multiply_adds": _multiply_adds(job),
        "data": {
            "name": data.name,
            "num_classes": data.num_classes,
            "class_names": list(data.class_names),
            "image_size": list(data.image_size),
            "sizes": data.sizes,
            "statistics": data.statistics,
            "digest": data.digest(),
        },
        "device": devices.device_name(job.device),
        "device_type": job.device,  # cpu, cuda or mps
        "processes": job.trainer.world_size,
        "precision": job.trainer.precision,
        "implementation": _implementation(job),
        "cuda_graphs": job.module.graphs is not None,
        "epochs": job.config["epochs"],
        "pid": os.getpid(),
    }


def _implementation(job: Job) -> str | None:
    """How a network is computed that can be computed in several ways, as a DenseNet."""
    choose = getattr(job.module.network, "choose_implementation", None)
    return None if choose is None else choose(job.device)


def _multiply_adds(job: Job) -> int:
    """Measured, which also shows before training that the network can take such images."""
    height, width = job.data.image_size
    try:
        return cost.multiply_adds(job.module.network, (height, width))
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = first_line(error)
        raise UserError(
            f"this network cannot take images of {height} x {width} pixels: {reason}"
        ) from error


def _train(job: Job, resume: bool) -> dict[str, Any]:
    last = job.keeper.last if resume and job.keeper.last.exists() else None
    if last is not None:
        epoch, batch = checkpoints.position(checkpoints.load_checkpoint(last))
        job.data.resume_at(epoch, batch)
        log.info("going on at epoch %d, batch %d", epoch + 1, batch + 1)
    job.trainer.fit(job.module, datamodule=job.data, ckpt_path=last, weights_only=True)
    return _results(job)


def _fitting_checkpoint(job: Job) -> dict[str, Any]:
    """The checkpoint to test; images are normalised as when it was trained, not by new measurements.

    Raises:
        UserError: if the images have other classes than it was trained on.
    """
    path, data = Path(job.config["checkpoint"]), job.data
    checkpoint = checkpoints.load_checkpoint(path)
    before = trained_on.of_checkpoint(checkpoint, path)
    if difference := trained_on.other_classes(before, {"class_names": list(data.class_names)}):
        rule = f"has other classes than checkpoint={path} was trained on: {difference}"
        raise trained_on.refusal(rule, job.config["data"])
    if before.get("image_size", size := list(data.image_size)) != size:
        text = "trained on images of %s pixels, tested on images of %s"
        log.warning(text, *(" x ".join(map(str, one)) for one in (before["image_size"], size)))
    if path.name == "best.ckpt" and (before.get("sizes") or {}).get("validation") == 0:
        text = "%s was chosen by the test images, since its run held none out: its error is no result"
        log.warning(text, path)
    if data.normalise == "mean_std" and before.get("statistics"):
        data.statistics = dict(before["statistics"])
    return checkpoint


def _refuse_other_images(record: RunRecord, now: dict[str, Any]) -> None:
    """Raise UserError if a run that goes on would be trained on other images than it began with."""
    if difference := trained_on.other_images(record.fields.get("data") or {}, now):
        rule = (
            f"holds other images than the run began with: {difference}; put them back, name the folder "
            "where they are now, or begin a new run"
        )
        raise trained_on.refusal(rule, record.fields["config"]["data"])


def _test(job: Job, checkpoint: dict[str, Any]) -> dict[str, Any]:
    checkpoints.load_weights(job.module.network, checkpoint, Path(job.config["checkpoint"]))
    return _tested(job)


def _results(job: Job) -> dict[str, Any]:
    """Test the last epoch's weights, and the best epoch's where held-out images chose it.

    `test_error` is the figure by the recipe's protocol (recipe.report): the paper's last epoch on
    CIFAR, the epoch of lowest validation error on SVHN (section 4.2). `reported` says which of the two
    checkpoints it belongs to; see `record.reported`. Without held-out images the lowest test error of
    all epochs is noted too, but never reported: the test set chose it.
    """
    keeper, split = job.keeper, job.data.evaluation_split
    column = f"{split}_error"
    errors = [row[column] for row in job.progress.rows if column in row]
    last = _tested(job)
    results = {f"{name}_last": value for name, value in last.items()}
    results |= {"best_epoch": keeper.best_epoch, "reported": "last"}
    if split == "test":
        return results | {"test_error_best": min(errors, default=None), "best_on_test": True} | last
    results["validation_error_last"] = job.progress.rows[-1].get(column)
    results["validation_error_best"] = keeper.best_value
    reports_best = job.config["recipe"]["report"] == "best"
    if keeper.best_epoch is None:
        if reports_best:
            log.warning("no epoch was judged by held-out images: the result is that of the last epoch")
        return results | last
    job.trainer.strategy.barrier()
    checkpoints.load_weights(job.module.network, checkpoints.load_checkpoint(keeper.best), keeper.best)
    best = _tested(job)
    results |= {f"{name}_best": value for name, value in best.items()}
    return results | (best | {"reported": "best"} if reports_best else last)


def _tested(job: Job) -> dict[str, Any]:
    job.trainer.test(job.module, datamodule=job.data, verbose=False)
    return {
        name.replace("/", "_"): metrics.recorded(name, value)
        for name, value in job.trainer.callback_metrics.items()
        if name.startswith("test/")
    }


def _peak_memory(job: Job) -> int:
    """The most memory the run held: the GPU's in a run on one, else the process's; in bytes."""
    if job.device == "cuda":
        return torch.cuda.max_memory_allocated()
    return peak_memory_bytes()


def _record(folder: Path, config: dict[str, Any], overrides: list[str], resume: bool) -> RunRecord:
    record = RunRecord.read(folder) if resume else None
    if record is not None and (record.fields["state"] == "done" or last_checkpoint(folder).exists()):
        if record.fields["state"] != "done":
            record.fields.pop("error", None)
            times = record.fields.get("resumed", 0) + 1
            record.update(state="running", resumed=times, identity=record.identity)
        return record
    if record is None:
        write_config(folder, config, overrides)
        return RunRecord.create(folder, config, overrides)
    # Time and environment of what was broken off must not pass for those of the run that begins again.
    # Words typed now are noted once they have been found to be right.
    _set_aside(folder, record.fields)
    begun = record.identity
    record = RunRecord.create(folder, record.fields["config"], record.fields["overrides"])
    record.update(identity=begun)
    return record


def _set_aside(folder: Path, fields: dict[str, Any]) -> None:
    """Keep what is left of a run that cannot go on, under other names, and say so.

    After its first epoch a run has a checkpoint, so that someone must have deleted it. What is left of
    a first epoch that was broken off is worth nothing: it comes again.
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
        "there is no %s, so the run begins again; what is left of %d of %d epochs is called *-before.*",
        summary.relative(last),
        fields["epoch"],
        fields["epochs"],
    )
