"""What a user gets who installs the wheel and works in an empty folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from tiny_run import TINY

PROJECT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_wheel_brings_its_configurations(tmp_path):
    build = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path / "dist"),
    ]
    subprocess.run([*build, str(PROJECT)], check=True, timeout=280, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(site)]
    subprocess.run([*install, str(wheel)], check=True, timeout=280, capture_output=True)
    folder = tmp_path / "empty"
    folder.mkdir()
    Image.new("RGB", (20, 30), "white").save(folder / "white.png")
    run = "outputs/run"
    for program, *words in (
        ["densenet-run", *TINY, f"hydra.run.dir={run}"],
        ["densenet-model", "predict", run, "white.png"],
        ["densenet-model", "export", run, "--format", "torch-export"],
    ):
        answer = subprocess.run(
            [str(site / "bin" / program), *words],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(site)},
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert answer.returncode == 0, answer.stderr
    assert (folder / run / "run.json").exists()
    assert (folder / run / "network.pt2").exists()
    where = "import densenet_cli; print(densenet_cli.__file__)"
    answer = subprocess.run(
        [sys.executable, "-c", where],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.startswith(str(site))
