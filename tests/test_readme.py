"""What README.md says can be typed, and its examples, work as they stand there."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torchvision

from densenet_cli.commands import model_parser, results_parser
from densenet_cli.kernels import is_fused

PROJECT = Path(__file__).parents[1]
README = (PROJECT / "README.md").read_text()
STUDIES = (PROJECT / "outputs/study/README.md").read_text()
FIRST_STUDY = STUDIES[: STUDIES.index("decided\n\n```")]


def test_every_command_composes(config):
    """Each densenet-run line of the README is one that the configuration accepts."""
    lines = re.findall(r"^(densenet-run .*?)(?:\s+#.*)?$", README.replace("\\\n", " "), re.MULTILINE)
    assert len(lines) >= 9
    for line in lines:
        words = [word.strip("'") for word in line.split()[1:]]
        if "--multirun" in words:
            words = [word.split(",")[0] for word in words if word != "--multirun"]
        config(*[word for word in words if not word.startswith("resume=")])


def test_every_results_command_is_one(capsys):
    lines = re.findall(r"^(densenet-results .*?)(?:\s+#.*)?$", README, re.MULTILINE)
    assert len(lines) >= 6
    for line in lines:
        results_parser.parser().parse_args(line.split()[1:])


def test_every_model_command_is_one():
    lines = re.findall(r"^\$ (densenet-model .*?)(?:\s+#.*)?$", README, re.MULTILINE)
    assert len(lines) >= 4
    for line in lines:
        model_parser.parser().parse_args(line.split()[1:])


def _section(title):
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def _shell(line, folder):
    """Run a line of the README as a shell does, with this environment's commands."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(
        ["sh", "-c", line], cwd=folder, env=environment, capture_output=True, text=True, timeout=240
    )


def test_a_network_and_data_of_ones_own_train_as_in_the_example(tmp_path):
    section = _section("Your own network and data")
    blocks = "".join(re.findall(r"```(?:python|yaml)\n(.*?)```", section, re.DOTALL))
    files = re.findall(r"^# ([\w./]+)\n(.*?)(?=^# |\Z)", blocks, re.DOTALL | re.MULTILINE)
    assert [name for name, _ in files] == [
        "my_project.py",
        "mine/model/tiny.yaml",
        "mine/data/coins.yaml",
    ]
    for name, text in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    np.save(
        tmp_path / "images.npy", np.random.default_rng(0).integers(0, 256, (200, 16, 16, 3), np.uint8)
    )
    np.save(tmp_path / "labels.npy", np.arange(200) % 2)
    [line] = re.findall(r"`(PYTHONPATH=.*?)`", section)
    answer = _shell(f"{line} hydra.run.dir=run", tmp_path)
    assert answer.returncode == 0, answer.stderr
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert record["state"] == "done"
    assert record["data"]["class_names"] == ["heads", "tails"]
    assert record["parameters"] == 962  # (3·3·3 + 1)·32 + (32 + 1)·2


def test_the_kernels_are_attached_as_in_the_example():
    [code] = re.findall(r"```python\n(.*?)```", _section("Speed"), re.DOTALL)
    names = {"torchvision": torchvision}
    exec(code, names)
    assert is_fused(names["network"])
    assert names["network"].classifier.out_features == 1000


def test_the_folders_in_the_map_are_those_of_the_code():
    named = set(
        re.findall(r"`(\w+)`", "".join(re.findall(r"^\|(.*?)\|", _section("A map of the code"), re.M)))
    )
    package = PROJECT / "densenet_cli"
    assert named - {"densenet_cli"} == {path.parent.name for path in package.glob("*/__init__.py")}


@pytest.mark.parametrize("text", [README, FIRST_STUDY], ids=["README", "studies"])
def test_the_first_study_says_what_its_records_say(text):
    answer = _shell("densenet-results table outputs/study --format markdown", PROJECT)
    cells = _rows(answer.stdout)
    made = {(network, error, *rest[2:4]) for network, _, error, *rest in cells}
    rows = _rows(text)
    assert len(rows) >= 3
    assert set(rows) <= made


@pytest.mark.parametrize(
    ("folder", "label"),
    [
        ("equal_parameters", "10 epochs"),
        ("equal_cost", "equal cost"),
        ("weight_decay_densenet", "DenseNet"),
        ("weight_decay_resnet", "ResNet"),
        ("modern_recipe", "300 epochs"),
        ("modern_train_size", "for 64"),
        ("modern_train_size_128", "for 128"),
    ],
)
def test_a_decided_study_says_what_its_records_say(folder, label):
    answer = _shell(f"densenet-results decide outputs/decided/{folder} --format markdown", PROJECT)
    made = [(network, *rest) for network, _, *rest in _rows(answer.stdout)]
    assert [row[1:] for row in _rows(STUDIES) if row[0] == label] == made
    assert len(made) == 2


def _rows(text: str) -> list[tuple[str, ...]]:
    """The rows of Markdown tables that hold a mean and a deviation."""
    found = re.findall(r"^\| (.*± .*) \|$", text, re.MULTILINE)
    return [tuple(cell.strip() for cell in row.split(" | ")) for row in found]
