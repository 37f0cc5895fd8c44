"""NVIDIA's Multi-Process Service, for runs that share a GPU; a script stands for NVIDIA's program."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import ended, lives
from tiny_run import TINY

from densenet_cli.sweep import mps

# Like NVIDIA's: -d starts a daemon and returns; else it asks the daemon what it reads.
CONTROL = """#!/bin/sh
cd "$CUDA_MPS_PIPE_DIRECTORY" 2>/dev/null || exit 1
echo "$* ${CUDA_VISIBLE_DEVICES-unset}" >> "$FAKE_MPS_LOG"
if [ "$1" = -d ]; then
  if [ "$FAKE_MPS" = refuses ]; then echo 'first'; echo 'no such device' >&2; exit 3; fi
  sleep 1000 & echo $! > pid; cp pid "$FAKE_MPS_LOG.pid"; exit 0
fi
[ -e pid ] || exit 1
[ "$FAKE_MPS" != silent ] || exit 1
while read word rest; do
  if [ "$word" = quit ]; then kill "$(cat pid)"; rm pid; echo "quit $rest" >> "$FAKE_MPS_LOG"; fi
done
"""
# The command on a machine where torch sees one GPU, on which everything can be computed.
COMMAND = """
import sys
from densenet_cli.commands.run import main
from densenet_cli.process import child
from densenet_cli.sweep import slots
slots._gpus = lambda: [slots.Gpu("0", 80 * 10**9)]
usual = child.command
child.command = lambda function, *words: (
    ["true"] if function.endswith("use_gpus") else usual(function, *words)
)
main()
"""
PARALLEL = ["hydra/launcher=parallel", "hydra.launcher.jobs=2", "trainer.accelerator=auto"]


@pytest.fixture
def control(tmp_path, monkeypatch):
    """The program on PATH; the file where it notes what it is asked."""
    program = tmp_path / "bin" / "nvidia-cuda-mps-control"
    program.parent.mkdir()
    program.write_text(CONTROL)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_MPS_LOG", str(tmp_path / "asked"))
    monkeypatch.delenv(mps.PIPES, raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    return tmp_path / "asked"


@pytest.fixture
def gpus_work(monkeypatch):
    usual = mps.child.command
    works = lambda function, *words: ["true"] if "use_gpus" in function else usual(function, *words)  # noqa: E731
    monkeypatch.setattr(mps.child, "command", works)


def daemon(asked):
    return int(Path(f"{asked}.pid").read_text())


@pytest.mark.usefixtures("gpus_work")
def test_a_service_is_started_and_stopped(control, capsys):
    with mps.serving(runs=4, gpus=1):
        folder = Path(os.environ[mps.PIPES])
        assert os.environ[mps.LOGS] == str(folder)
        assert lives(daemon(control))
    assert ended(daemon(control))
    assert not folder.exists()
    assert mps.PIPES not in os.environ
    assert "-d unset" in control.read_text().splitlines()  # all GPUs, by their own numbers
    assert control.read_text().splitlines()[-1] == "quit -t 5"
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("gpus_work")
def test_a_service_that_runs_already_is_used_and_left(control, tmp_path, monkeypatch):
    monkeypatch.setenv(mps.PIPES, str(tmp_path))
    (tmp_path / "pid").write_text("1")
    with mps.serving(runs=4, gpus=1):
        assert os.environ[mps.PIPES] == str(tmp_path)
    assert "-d" not in control.read_text()
    assert "quit" not in control.read_text()


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [("refuses", "no such device"), ("silent", "the service does not answer"), ("works", "no GPU")],
)
def test_what_cannot_be_used_is_said_in_one_line_and_stopped(
    behaviour, reason, control, monkeypatch, capsys
):
    monkeypatch.setenv("FAKE_MPS", behaviour)
    failing = [sys.executable, "-c", "raise SystemExit('first\\nno GPU')"]
    monkeypatch.setattr(mps.child, "command", lambda *_: failing)
    with mps.serving(runs=4, gpus=1):
        assert mps.PIPES not in os.environ
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (f"densenet-run: 4 runs at once take turns on 1 GPU, without NVIDIA's MPS: {reason}")
    if behaviour == "works":
        assert ended(daemon(control))


def test_where_it_is_not_installed_one_line_says_so(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with mps.serving(runs=4, gpus=2):
        pass
    said = capsys.readouterr().err
    assert said.endswith("on 2 GPUs, without NVIDIA's MPS: nvidia-cuda-mps-control is not installed\n")


def sweep(*words):
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, "--multirun", *TINY, "sweep.name=mine", *PARALLEL, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
def test_runs_of_a_sweep_share_a_gpu_by_the_service(control):
    process = sweep("epochs=1", "seed=0,1,2")
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert "3 runs: 3 done" in said
    assert ended(daemon(control))
    assert control.read_text().count("-d unset") == control.read_text().count("quit -t 5") == 1


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_service_ends_with_the_command_whatever_ends_it(number, control, tmp_path):
    process = sweep("epochs=5000", "seed=0,1")
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("outputs/mine/*/metrics.csv"))) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert lives(daemon(control))
    process.send_signal(number)
    process.communicate(timeout=60)
    assert ended(daemon(control))
