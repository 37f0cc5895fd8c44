"""Fixtures: the real command, a configuration, images; one thread and one seed for every test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported; subprocesses inherit it
os.environ["GOMP_SPINCOUNT"] = "10000"  # where a test has two: little spinning on a busy core

import pytest
import torch

from densenet_cli.commands import results as results_cli
from densenet_cli.commands import run as cli
from densenet_cli.config import resolvers
from densenet_cli.config.compose import compose, composing, resolved

resolvers.register()


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Give networks that a test file makes as parameters of its tests the same weights each time."""
    if isinstance(collector, pytest.Module):
        torch.manual_seed(0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests that need a GPU where there is none."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """Undo what commands called in this process do to the environment, which the next test inherits."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def config() -> Callable[..., dict]:
    """The resolved configuration with some overrides."""

    def configure(*overrides: str) -> dict:
        with composing():
            return resolved(compose(list(overrides)))

    return configure


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess]:
    """Run densenet-run in an empty folder, and wait for it."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", "densenet_cli.commands.run", *arguments],
            cwd=tmp_path,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    return run


@pytest.fixture
def without_reader(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess]:
    """Run a command in an empty folder, its output in a pipe that nobody reads, and wait for it."""

    def run(module: str, *arguments: str) -> subprocess.CompletedProcess:
        reader, writer = os.pipe()
        os.close(reader)
        try:
            return subprocess.run(
                [sys.executable, "-m", module, *arguments],
                cwd=tmp_path,
                stdout=writer,
                stderr=subprocess.PIPE,
                text=True,
                timeout=240,
                check=False,
            )
        finally:
            os.close(writer)

    return run


@pytest.fixture
def interrupted(tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Run densenet-run, send it a signal once a file exists; its exit status and standard error."""

    def run(*arguments: str, once: str, send: signal.Signals) -> tuple[int, str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "densenet_cli.commands.run", *arguments],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + 120
        while not (tmp_path / once).exists():
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline, f"{once} never came"
            time.sleep(0.02)
        process.send_signal(send)
        _, said = process.communicate(timeout=120)
        return process.returncode, said

    return run


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable:
    """Call densenet-run in this process, which has imported torch; its exit status and stderr."""

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["densenet-run", *arguments])
        try:
            cli.main()
            status = 0
        except SystemExit as end:
            status = end.code
        if isinstance(status, str):  # which Python prints as it ends
            return 1, f"{status}\n"
        return status, capsys.readouterr().err

    return run


@pytest.fixture
def refused(typed: Callable) -> Callable[..., str]:
    """Type options that densenet-run must refuse; its message, which must be one and no traceback."""

    def run(*arguments: str) -> str:
        status, said = typed(*arguments)
        assert status == 1
        assert "Traceback" not in said
        (message,) = [line for line in said.splitlines() if line.startswith("densenet-run: ")]
        return message

    return run


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable[..., str]:
    """Type densenet-results in this process: what it prints, or the message that it ends with."""

    def run(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["densenet-results", *words])
        try:
            results_cli.main()
        except SystemExit as end:
            return f"{end.code}"
        return capsys.readouterr().out

    return run


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of two classes with ten images each."""
    import numpy as np
    from PIL import Image

    chance = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(10):
            image = Image.fromarray(chance.integers(0, 256, (20, 20, 3), dtype=np.uint8))
            image.save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"
