"""What README.md says of networks, choices and commands is so."""

import re
from pathlib import Path

import pytest
import torch

from densenet_cli.commands import model_parser, results
from densenet_cli.config.build import build
from densenet_cli.config.compose import CONF
from densenet_cli.models import cost

README = (Path(__file__).parents[1] / "README.md").read_text()


def _networks():
    """(name, parameters, multiply-adds, side, classes) of every network in the table."""
    small, large = README.split("| *for 224x224, 1,000 classes* |")
    for part, side, classes in ((small, 32, 10), (large, 224, 1000)):
        for name, *numbers in re.findall(
            r"^\| `(\w+)` \| ([\d,]+) \| ([\d,]+) \|$", part, re.MULTILINE
        ):
            parameters, products = (int(number.replace(",", "")) for number in numbers)
            yield name, parameters, products, side, classes


NETWORKS = list(_networks())


def test_the_table_holds_every_network():
    bases = {"densenet", "densenet_bc", "resnet", "plain", "preact_resnet", "wide_resnet"}
    bases |= {"torchvision", "timm"}
    files = {path.stem for path in (CONF / "model").glob("*.yaml")}
    assert {row[0] for row in NETWORKS} == files - bases


@pytest.mark.parametrize("row", NETWORKS, ids=[row[0] for row in NETWORKS])
def test_networks_have_the_size_in_the_table(row, config):
    name, parameters, products, side, classes = row
    with torch.device("meta"):
        network = build("model", config(f"model={name}")["model"], num_classes=classes)
    assert cost.count_parameters(network) == parameters
    if parameters < 900_000:  # the others are slow to measure, and measured in tests/models
        assert cost.multiply_adds(network, side) == products


def test_every_command_composes(config):
    """Each densenet-run line of the README is one that the configuration accepts."""
    lines = re.findall(r"^(densenet-run .*?)(?:\s+#.*)?$", README.replace("\\\n", " "), re.MULTILINE)
    assert len(lines) >= 10
    for line in lines:
        words = [word.strip("'") for word in line.split()[1:]]
        if "--multirun" in words:
            words = [word.split(",")[0] for word in words if word != "--multirun"]
        config(*[word for word in words if not word.startswith("resume=")])


def test_every_results_command_is_one(capsys):
    lines = re.findall(r"^(densenet-results .*?)(?:\s+#.*)?$", README, re.MULTILINE)
    assert len(lines) >= 6
    for line in lines:
        results._parser().parse_args(line.split()[1:])


def test_every_model_command_is_one():
    lines = re.findall(r"^\$ (densenet-model .*?)(?:\s+#.*)?$", README, re.MULTILINE)
    assert len(lines) >= 4
    for line in lines:
        model_parser.parser().parse_args(line.split()[1:])


def test_the_table_of_sweeps_holds_every_one():
    table = README.split("| `sweep=` | what |")[1].split("\n\n")[0]
    named = set(re.findall(r"`(\w+)`", table))
    named = {f"paper_table2{name}" if name.startswith("_") else name for name in named}
    assert named == {path.stem for path in (CONF / "sweep").glob("*.yaml")}
