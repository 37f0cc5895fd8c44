"""What README.md says of networks, choices and commands is so."""

import re
from pathlib import Path

from densenet_cli.commands import model_parser, results
from densenet_cli.config.compose import CONF

README = (Path(__file__).parents[1] / "README.md").read_text()


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
