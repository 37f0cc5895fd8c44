"""The checklist for GPUs, tried without one: `make gpu` is rarely run, and must then work at once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]


def checklist(*words, **environment):
    return subprocess.run(
        [sys.executable, "tests/benchmarks/gpu_checklist.py", *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": ".", **environment},
        capture_output=True,
        text=True,
        timeout=880,
        check=False,
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_one_line(tmp_path):
    answer = checklist(tmp_path / "found")
    assert answer.returncode == 1
    *warnings, line = answer.stderr.splitlines()
    assert line.startswith("the checklist needs a GPU: torch finds no CUDA device here")
    assert "Traceback" not in "".join(warnings), answer.stderr  # libraries may have warned before
    assert not (tmp_path / "found").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_part_works_on_the_cpu(tmp_path):
    paper = tmp_path / "paper"
    words = [
        tmp_path,
        "--device",
        "cpu",
        "--small",
        "--paper",
        paper,
        "--data-root",
        tmp_path / "cifar",
    ]
    made = "import sys; sys.path.insert(0, 'tests/benchmarks'); import command_speed, pathlib\n"
    made += f"command_speed.random_cifar(pathlib.Path({str(tmp_path / 'cifar')!r}), 8)"
    subprocess.run([sys.executable, "-c", made], cwd=ROOT, check=True)
    answer = checklist(*words, "epochs=3")
    found = json.loads((tmp_path / "checklist.json").read_text())
    parts = found["parts"]
    assert {name: one["status"] for name, one in parts.items() if name != "tests"} == dict.fromkeys(
        ["compile", "rounding", "kernels", "steps", "command", "sharing", "paper"], "done"
    ), answer.stdout
    assert parts["tests"]["result"]["tests"] == len(parts["tests"]["result"]["skipped"]) > 0
    assert parts["compile"]["result"]["again"]["first_step_s"] > 0
    (errors,) = parts["rounding"]["result"].values()
    assert 0 < errors["float32"]["gradients"]["fused"] < 1e-4
    (kernels,) = parts["kernels"]["result"].values()
    assert kernels["launches"] > 100
    assert 0 < kernels["host_seconds"] <= kernels["seconds"]
    (steps,) = parts["steps"]["result"].values()
    assert all(steps[name]["seconds"] > 0 for name in ("modules", "fused, recorded", "as it comes"))
    assert "not finished after 2 s" in steps["torch.compile, default"]["absent"]
    assert parts["command"]["result"]["auto"]["share"] > 0
    assert all(one["images_per_second"] for one in parts["sharing"]["result"].values())
    assert parts["paper"]["result"]["state"] == "done"
    for name in parts:
        assert f"\n{name}" in answer.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_part_that_fails_does_not_stop_the_others(tmp_path):
    words = ["--device", "cpu", "--small", "--only", "command,rounding"]
    answer = checklist(tmp_path, *words, "model.depth=11")
    assert answer.returncode == 1
    command, rounding = answer.stdout.splitlines()[-2:]
    assert "FAILED" in command
    assert "model.depth=11" in command
    assert "1 networks are right" in rounding


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_part_that_takes_too_long_is_cut_off(tmp_path):
    words = ["--device", "cpu", "--small", "--only", "steps,tests", "--minutes", "0.15"]
    answer = checklist(tmp_path, *words)
    assert answer.returncode == 1
    assert "CUT OFF after 10 s" in answer.stdout
    assert answer.stdout.splitlines()[-1].endswith("left out: no time was left")
    assert json.loads((tmp_path / "checklist.json").read_text())["parts"].keys() == {"steps", "tests"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_papers_run_is_stopped_when_time_is_over_and_resumed(tmp_path):
    words = [tmp_path, "--device", "cpu", "--small", "--only", "paper", "--paper", tmp_path / "paper"]
    made = "import sys; sys.path.insert(0, 'tests/benchmarks'); import command_speed, pathlib\n"
    made += f"command_speed.random_cifar(pathlib.Path({str(tmp_path / 'cifar')!r}), 8)"
    subprocess.run([sys.executable, "-c", made], cwd=ROOT, check=True)
    words += ["--data-root", tmp_path / "cifar", "--minutes", "1"]
    epochs = []
    for _ in range(2):
        answer = checklist(*words, "epochs=100000")
        assert answer.returncode == 0, answer.stdout
        found = json.loads((tmp_path / "parts/paper.json").read_text())
        assert found["state"] == "interrupted"
        epochs.append(len(found["epochs"]))
    assert 0 < epochs[0] < epochs[1]
