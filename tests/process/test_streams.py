"""Commands with a closed terminal, without a reader, on a full disk, or without standard streams."""

import fcntl
import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios

import pytest
from tiny_run import TINY

RUN = [sys.executable, "-m", "densenet_cli.commands.run"]
LONG = [*TINY, "epochs=6"]  # takes much longer than its first line
ALONE = "hydra.run.dir=outputs/run"
SWEEP = ["--multirun", "seed=0", "sweep.name=sweep"]


def _record(path):
    return json.loads((path / "run.json").read_text())


def _only_run(folder):
    (record,) = folder.glob("outputs/**/run.json")
    return record.parent


def _assert_trained_on(folder, epochs=6):
    assert _record(folder)["state"] == "done"
    assert len((folder / "metrics.csv").read_text().splitlines()) == epochs + 1
    log = (folder / "run.log").read_text()
    assert f"epoch {epochs}/{epochs}" in log
    assert "Error" not in log


def test_a_run_that_loses_its_reader_continues_training(tmp_path):
    process = subprocess.Popen(
        [*RUN, *LONG, ALONE], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline().startswith("training DenseNet")
    process.stdout.close()  # `| head -1`
    assert (process.stderr.read(), process.wait(240)) == ("", 0)
    _assert_trained_on(tmp_path / "outputs/run")


@pytest.mark.slow
def test_a_failed_run_without_reader_ends_with_status_1(without_reader, tmp_path):
    answer = without_reader("densenet_cli.commands.run", *LONG, ALONE, "model.depth=11")
    assert answer.returncode == 1
    assert "model.depth=11" in _record(tmp_path / "outputs/run")["error"]


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("parallel", "joblib", "submitit_local")]


@pytest.mark.parametrize("launcher", ["basic", *SLOW])
def test_a_sweep_without_reader_runs_all_its_jobs(launcher, without_reader, tmp_path):
    arguments = ["--multirun", *TINY, f"hydra/launcher={launcher}", "seed=0,1", "sweep.name=sweep"]
    answer = without_reader("densenet_cli.commands.run", *arguments)
    assert answer.returncode == 0
    for seed in (0, 1):
        _assert_trained_on(tmp_path / f"outputs/sweep/seed={seed}", epochs=2)


def _in_a_terminal(*arguments, cwd, ignore_hangup):
    """A command in the foreground of a terminal of its own: the process, and the other end."""
    ours, terminal = pty.openpty()

    def take_terminal():
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        # Either way, as these tests may themselves be run by nohup, which ignores hangups.
        signal.signal(signal.SIGHUP, signal.SIG_IGN if ignore_hangup else signal.SIG_DFL)

    process = subprocess.Popen(
        arguments,
        cwd=cwd,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        preexec_fn=take_terminal,
    )
    os.close(terminal)
    return process, ours


def _close_once_shown(ours, text):
    shown = b""
    while text not in shown:
        assert select.select([ours], [], [], 120)[0], shown
        shown += os.read(ours, 10_000)
    os.close(ours)


@pytest.mark.parametrize("is_sweep", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_run_outlives_its_terminal_if_hangups_are_ignored(is_sweep, tmp_path):
    arguments = [*RUN, *LONG, *(SWEEP if is_sweep else [ALONE])]
    process, ours = _in_a_terminal(*arguments, cwd=tmp_path, ignore_hangup=True)
    _close_once_shown(ours, b"epoch 1/6")
    assert process.wait(240) == 0
    _assert_trained_on(_only_run(tmp_path))


@pytest.mark.parametrize("is_sweep", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_closed_terminal_interrupts_a_run_that_can_be_resumed(is_sweep, tmp_path):
    arguments = [*RUN, *TINY, "epochs=2000", *(SWEEP if is_sweep else [ALONE])]
    process, ours = _in_a_terminal(*arguments, cwd=tmp_path, ignore_hangup=False)
    _close_once_shown(ours, b" 1/2000")
    assert process.wait(240) == 128 + signal.SIGHUP
    record = _record(_only_run(tmp_path))
    assert record["state"] == "interrupted"
    assert record["epoch"] < 2000
    assert (_only_run(tmp_path) / "checkpoints/last.ckpt").exists()


@pytest.mark.slow
def test_a_full_disk_under_the_output_does_not_end_a_run(tmp_path):
    with open("/dev/full", "w") as full:
        answer = subprocess.run(
            [*RUN, *LONG, ALONE], cwd=tmp_path, stdout=full, stderr=full, timeout=240
        )
    assert answer.returncode == 0
    _assert_trained_on(tmp_path / "outputs/run")


@pytest.mark.slow
def test_a_run_with_closed_streams_writes_no_output_into_its_files(tmp_path):
    arguments = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *RUN, *LONG, ALONE]
    assert subprocess.run(arguments, cwd=tmp_path, timeout=240, check=False).returncode == 0
    _assert_trained_on(tmp_path / "outputs/run")


@pytest.mark.parametrize(
    "arguments",
    [
        ["densenet_cli.commands.run", "--cfg", "job"],
        ["densenet_cli.commands.run", "--help"],
        ["densenet_cli.commands.model", "--help"],
        ["densenet_cli.commands.model", "summary", "model.depth=10"],
    ],
    ids=" ".join,
)
def test_a_command_that_prints_ends_with_its_reader(arguments, without_reader):
    answer = without_reader(*arguments)
    assert (answer.returncode, answer.stderr) == (141, "")
