"""A full disk is reported once, and readers of the record understand the state of the run."""

import errno
import json
import logging
import os
from pathlib import Path

from tiny_run import TINY

from densenet_cli.config.compose import composing
from densenet_cli.files import atomic_file
from densenet_cli.files.lock import lock_folder
from densenet_cli.results.records import KILLED, read_run
from densenet_cli.sweep import jobs
from densenet_cli.sweep.plan import plan
from densenet_cli.sweep.status import SweepStatus, stored_record

RUN = Path("outputs/run")


def test_messages_that_cannot_be_written_are_reported_once(typed):
    RUN.mkdir(parents=True)
    (RUN / "run.log").symlink_to("/dev/full")
    status, stderr = typed(*TINY, f"hydra.run.dir={RUN}")
    assert status == 0
    assert (
        stderr
        == f"densenet-run: {RUN.absolute()}/run.log lacks some messages: No space left on device\n"
    )
    assert json.loads((RUN / "run.json").read_text())["state"] == "done"


def test_a_disk_that_fills_during_a_run_is_one_message(typed, monkeypatch):
    """After the first epoch nothing can be written: no log, no record, no checkpoint."""
    RUN.mkdir(parents=True)
    (RUN / "run.log").symlink_to("/dev/full")

    def full(descriptor):
        if (RUN / "metrics.csv").exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(atomic_file.os, "fsync", full)
        status, stderr = typed(*TINY, "checkpoint_minutes=10", f"hydra.run.dir={RUN}")
    assert status == 1
    assert stderr == (
        f"densenet-run: {RUN.absolute()}/run.json cannot be written: No space left on device; "
        "its record cannot say so\n"
    )
    assert json.loads((RUN / "run.json").read_text())["state"] == "running"
    assert read_run(RUN).status == KILLED
    assert not list(RUN.rglob("*.partial-*"))
    (RUN / "run.log").unlink()
    assert typed(f"resume={RUN}")[0] == 0


def test_a_wrong_format_of_a_message_is_not_reported_as_an_error_of_the_disk(tmp_path, capsys):
    from densenet_cli.run.log import RunLog

    handler = RunLog(tmp_path / "run.log", lambda: None)
    handler.handle(
        logging.LogRecord("ours", logging.INFO, "x.py", 1, "%d images", ("no number",), None)
    )
    handler.close()
    assert handler.fault is None
    assert "--- Logging error ---" in capsys.readouterr().err


def test_sweeps_and_plans_explain_a_record_that_is_running_without_a_process():
    with composing():
        sweep = jobs.compose_sweep([*TINY, "sweep.name=mine", "seed=0,1"])
    first, second = sweep.jobs
    first.folder.mkdir(parents=True)
    record = {"format": 1, "state": "running", "config": first.config, "results": {}}
    (first.folder / "run.json").write_text(json.dumps(record))
    state = SweepStatus(sweep.jobs)
    assert state.reason(first).endswith("run.json still has the state running")
    assert state.reason(second) == "its folder was deleted or moved during the run"
    states = [plan._state(job, stored_record(job)) for job in sweep.jobs]
    assert states == ["interrupted", "to do"]
    with lock_folder(first.folder):
        assert plan._state(first, stored_record(first)) == "running"
