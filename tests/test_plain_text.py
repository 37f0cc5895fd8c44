"""Names are shown unchanged, and no terminal, figure, page or spreadsheet obeys them."""

import io
import json
import logging
import re
from pathlib import Path

import pytest
from rich.console import Console

from densenet_cli.options import OptionError, UserError, not_installed
from densenet_cli.plain_text import (
    Formatter,
    as_title,
    first_line,
    in_json,
    last_line,
    printable,
    shortened,
)
from densenet_cli.run import summary
from densenet_cli.sweep import status
from densenet_cli.sweep.jobs import Job

NASTY = ["[/b]", "[bold]x[/bold]", ":cat:", "a[1]", "[link=http://a]x[/link]", "$x$", "\\[b]"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("año ± θ 猫 👩‍🔬", "año ± θ 猫 👩‍🔬"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\r\nb\tc\x00", r"a\r\nb\tc\x00"),
        ("\x9b31m", r"\x9b31m"),
        ("caf\udce9", r"caf\xe9"),
        ("\ud800", r"\ud800"),
        ("\u202egpj", r"\u202egpj"),
        ("\ufffe", r"\ufffe"),
        (Path("a\nb"), r"a\nb"),
    ],
)
def test_what_is_not_seen_is_shown_as_an_escape(text, expected):
    assert printable(text) == expected
    assert printable(text, keep="\n") == (expected.replace(r"\n", "\n"))


@pytest.mark.parametrize(
    ("longest", "expected"), [(11, "DenseNet, k"), (10, "DenseNet…"), (9, "DenseNet…"), (8, "DenseNe…")]
)
def test_a_long_text_is_shortened_to_so_many_characters(longest, expected):
    assert shortened("DenseNet, k", longest) == expected
    assert as_title("DenseNet, k", longest) == expected


def test_the_first_line_of_an_error_says_what_it_is():
    assert first_line(ValueError("\n too large \nand more\n")) == "too large"
    assert first_line(ValueError("")) == "ValueError"
    assert first_line(" one\ntwo") == "one"
    assert first_line("") == ""


def test_the_last_line_of_a_traceback_is_its_error():
    assert last_line("Traceback:\n  File x\nMemoryError: 5\n\n") == "MemoryError: 5"
    assert last_line("") == ""


def test_a_missing_package_is_named_with_the_command_that_installs_it():
    error = not_installed("pretrained.weights=timm", "timm", extra="timm")
    assert isinstance(error, UserError)
    assert str(error) == (
        "pretrained.weights=timm needs the package timm, which is not installed: "
        "pip install 'densenet-cli[timm]'"
    )


def test_json_shows_no_control_character_and_keeps_its_strings():
    value = {"a\x7f": ["\x9b\x1b\n\ud800\u2028é"]}
    text = in_json(json.dumps(value, indent=1, ensure_ascii=False))
    assert json.loads(text) == value
    assert re.fullmatch(r"[ -~é\n]*", text)


def test_a_message_about_an_option_shows_its_value_with_escapes():
    assert str(OptionError("name", "\x1b[2J\n", "must be a word")) == r"name=\x1b[2J\n: must be a word"


def test_a_message_of_a_log_shows_names_with_escapes():
    record = logging.LogRecord(
        "x", logging.INFO, "x.py", 1, "%s left out\n\tall", ("\x1b[2J\udce9",), None
    )
    assert Formatter("run: %(message)s").format(record) == "run: \\x1b[2J\\xe9 left out\n\tall"


@pytest.mark.parametrize("name", [*NASTY, "\x1b[2J"])
def test_a_sweep_shows_the_names_of_its_folders_as_they_are(name, tmp_path, config, monkeypatch):
    out = io.StringIO()
    console = status.output_console()
    console.file = out
    monkeypatch.setattr(status, "output_console", lambda: console)
    folder = tmp_path / name.replace("/", "|")
    job = Job([], config("data=digits"), folder / name.replace("/", "|"))
    sweep_status = status.SweepStatus([job])
    sweep_status.fail(job, f"out of {name}")
    sweep_status.print_table(folder, [])
    text, shown = out.getvalue(), printable(name)
    assert f"{printable(folder.name)} failed: out of {shown}\n" in text
    assert f"see run.log in {printable(folder.name)}/<run>" in text
    assert f"{printable(folder.name)} " in text.splitlines()[3]
    assert "\x1b" not in text


@pytest.mark.parametrize("name", [*NASTY, "\x1b[2J"])
def test_a_run_shows_the_names_of_its_data_and_folder_as_they_are(name, config):
    fields = {
        "config": config("data=digits") | {"model": {"_target_": f"x.{name}", "name": name}},
        "data": {"name": name, "sizes": {"train": 9}, "image_size": [8, 8]},
        "parameters": 1000,
        "multiply_adds": 5,
        "device": name,
        "precision": "bf16",
        "results": {"test_error": 4.5},
        "seconds": 3.0,
    }
    console = Console(file=io.StringIO(), width=200)
    summary.announce(console, fields, Path(name))
    summary.show(console, fields, Path(name))
    summary.next_steps(console, [f"densenet-run {name}"])
    text, shown = console.file.getvalue(), printable(name)
    assert f"training {shown}, 1,000 parameters, on {shown}, 9 images of 8x8; {shown}, bf16; " in text
    assert f"folder             {printable(summary.relative(Path(name)))}\n" in text
    assert f"  densenet-run {shown}\n" in text
