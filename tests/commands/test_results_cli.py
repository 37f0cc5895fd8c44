"""densenet-results as one types it."""

from __future__ import annotations

import csv
import json
import logging
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from example_record import write

import densenet_cli
from densenet_cli.commands import results as cli
from densenet_cli.results.plots import KINDS
from densenet_cli.results.records import read_runs

COMMAND = [sys.executable, "-m", "densenet_cli.commands.results"]


def typed(*words, **options):
    return subprocess.run(
        [*COMMAND, *words], capture_output=True, text=True, timeout=60, check=False, **options
    )


def test_without_arguments_help_and_examples_are_shown():
    answer = typed()
    assert answer.returncode == 0
    assert answer.stdout == typed("--help").stdout
    for word in ("table", "plot", "report", "watch", "compare", "densenet-results table --paper"):
        assert word in answer.stdout


def test_the_help_of_plot_says_what_each_kind_of_figure_needs():
    answer = typed("plot", "--help")
    for name, kind in KINDS.items():
        assert re.search(rf"^  {name} .*: {re.escape(kind.needs)}$", answer.stdout, re.MULTILINE)


def test_the_default_folder_is_outputs(tmp_path):
    write(tmp_path / "outputs/run", 4.5)
    answer = typed("table", "--format", "csv", cwd=tmp_path)
    assert answer.stdout.count("\n") == 2
    assert ",4.5," in answer.stdout


def test_several_folders_and_options_together(tmp_path):
    write(tmp_path / "a/0", 4.0)
    write(tmp_path / "b/0", 5.0, model__growth_rate=24)
    words = ["--group-by", "model.growth_rate,data", "--sort", "-error", "--format", "markdown"]
    answer = typed("table", "a", "b", *words, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    first, second = answer.stdout.splitlines()[2:4]
    assert first.startswith("| k=24, C10+ | C10+ | 5.00 |")
    assert second.startswith("| k=12, C10+ | C10+ | 4.00 |")


def test_a_damaged_record_is_reported_beside_the_table(tmp_path):
    write(tmp_path / "good")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/run.json").write_text("{")
    answer = typed("table", str(tmp_path))
    assert answer.returncode == 0
    assert f"densenet-results: left out: {tmp_path}/bad/run.json cannot be read: " in answer.stderr
    assert "DenseNet-BC (L=100, k=12)" in answer.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["table"], "outputs: there is no such folder"),
        (["table", "."], ".: no runs found; train one with densenet-run"),
        (["watch", "nowhere"], "nowhere: there is no such folder"),
        (["compare", "a", "b"], "a contains no run: there is no run.json in it"),
    ],
)
def test_an_error_is_one_message(tmp_path, words, message):
    answer = typed(*words, cwd=tmp_path)
    assert answer.returncode == 1
    assert answer.stderr.startswith(f"densenet-results: {message}")
    assert answer.stderr.count("\n") == 1
    assert answer.stdout == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tabel"], "invalid choice: 'tabel'"),
        (["table", "--format", "excel"], "invalid choice: 'excel'"),
        (["watch", "--interval", "0"], "must be from 0.1 to 3600 seconds"),
        (["table", "--\x1b[2J"], r"unrecognized arguments: --\x1b[2J"),
        (["compare", "a"], "the following arguments are required: b"),
    ],
)
def test_wrong_arguments_are_answered_with_the_usage(words, message):
    answer = typed(*words)
    assert answer.returncode == 2
    assert message in answer.stderr
    assert answer.stderr.startswith("usage: densenet-results")


def test_it_ends_quietly_when_its_reader_ends(tmp_path):
    for index in range(300):
        write(tmp_path / str(index), model__growth_rate=index + 1)
    line = f"{' '.join(COMMAND)} table {tmp_path} --format csv | head -1"
    answer = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert answer.stdout.startswith("title,family,network")
    assert answer.stderr == ""


def test_tables_are_shown_on_a_terminal_without_unicode(tmp_path):
    write(tmp_path / "a", model__compression=0.5)
    write(tmp_path / "b", model__compression=0.6)
    environment = {"PYTHONIOENCODING": "ascii", "PATH": ""}
    answer = typed("table", str(tmp_path), env=environment)
    assert answer.returncode == 0, answer.stderr
    assert "?=0.6" in answer.stdout
    assert "* lowest test error of any epoch" in answer.stdout


def test_tables_need_neither_torch_nor_matplotlib(tmp_path):
    write(tmp_path / "a")
    line = (
        "import sys; from densenet_cli.commands.results import main; "
        f"sys.argv = ['densenet-results', 'table', {str(tmp_path)!r}, '--paper']; main(); "
        "heavy = {'torch', 'lightning', 'matplotlib', 'hydra', 'numpy'} & sys.modules.keys(); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    answer = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("words", ["table . --format csv", "compare a b", "watch .", "table --help"])
def test_commands_that_print_end_with_their_reader(words, without_reader, tmp_path):
    write(tmp_path / "a", 4.0)
    write(tmp_path / "b", 5.0, seed=1)
    answer = without_reader("densenet_cli.commands.results", *words.split())
    assert (answer.returncode, answer.stderr) == (141, "")
    with open("/dev/full", "w") as full:
        answer = subprocess.run(
            [*COMMAND, *words.split()], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    said = "densenet-results: standard output cannot be written: No space left on device\n"
    assert (answer.returncode, answer.stderr) == (1, said)


def test_figures_are_finished_without_a_reader(without_reader, tmp_path):
    write(tmp_path / "a", 4.0)
    words = ["plot", "a", "--format", "png,svg", "--kind", "error_parameters"]
    answer = without_reader("densenet_cli.commands.results", *words)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert {path.suffix for path in (tmp_path / "figures").iterdir()} == {".png", ".svg", ".csv"}


def test_copied_and_repeated_runs_count_once_and_are_reported(tmp_path):
    for seed, error in ((0, 4.0), (1, 5.0)):
        ended = f"2026-11-22T12:0{seed}:00+00:00"
        write(tmp_path / f"outputs/sweep/seed={seed}", error, seed=seed, ended=ended)
    shutil.copytree(tmp_path / "outputs/sweep", tmp_path / "outputs/copy")
    write(tmp_path / "outputs/again", 9.0, seed=0, ended="2026-11-22T13:00:00+00:00")
    note = "3 runs are not averaged, since the same seed of the same setting finished before: "
    for words in (["table"], ["table", "--format", "csv"], ["table", "--group-by", "data"]):
        answer = typed(*words, cwd=tmp_path)
        said = answer.stdout + answer.stderr
        assert note in said
        assert re.search(
            "for example, .* repeats outputs/copy/seed=[01]", answer.stdout + answer.stderr
        )
        assert "4.50 ± 0.71" in answer.stdout or ",4.5," in answer.stdout
    table = json.loads(typed("table", "--format", "json", cwd=tmp_path).stdout)
    assert (table[0]["n"], table[0]["not_averaged"]) == (2, 3)
    assert sum(one["repeats"] is None for one in table[0]["runs"]) == 2
    answer = typed("plot", "--kind", "error_parameters", cwd=tmp_path)
    assert note in answer.stderr
    (point,) = csv.DictReader((tmp_path / "figures/error_parameters.csv").open())
    assert (point["error_percent_mean"], point["n"]) == ("4.5", "2")
    assert typed("report", cwd=tmp_path).returncode == 0
    page = (tmp_path / "report.html").read_text()
    assert note in page
    assert page.count(">repeated<") == 3


def test_published_runs_are_shown_only_if_named(tmp_path):
    write(tmp_path / "outputs/mine", 4.0)
    write(tmp_path / "outputs/study/a", 9.0, model__growth_rate=24)
    (tmp_path / "outputs/study/.published").touch()
    note = "left out: outputs/study holds published runs; name this folder to see them"
    for words in ([], ["outputs"]):
        answer = typed("table", *words, "--format", "csv", cwd=tmp_path)
        assert answer.stdout.count("\n") == 2
        assert ",4.0," in answer.stdout
        assert note in answer.stderr
    for words in (["outputs/study"], ["outputs/study/a"]):
        answer = typed("table", *words, "--format", "csv", cwd=tmp_path)
        assert ",9.0," in answer.stdout
        assert answer.stderr == ""
    assert "2 runs" not in typed("watch", "--once", cwd=tmp_path).stdout
    both = typed("table", "outputs", "outputs/study", "--format", "csv", cwd=tmp_path)
    assert both.stdout.count("\n") == 3
    assert both.stderr == ""


def test_the_study_of_this_checkout_is_marked_as_published():
    study = Path(densenet_cli.__file__).parents[1] / "outputs/study"
    if not study.exists():
        pytest.skip("installed without the checkout")
    assert (study / ".published").exists()
    runs, left_out = read_runs([study.parent])
    assert not [run for run in runs if study in run.folder.parents]
    assert study in [item.path for item in left_out]
    assert len(read_runs([study])[0]) == 18


def test_decide_as_one_types_it(tmp_path, monkeypatch, capsys):
    for seed, errors in enumerate([(4.5, 5.5), (4.6, 5.7), (4.4, 5.4)]):
        for growth_rate, error in zip((24, 12), errors, strict=True):
            name = f"outputs/sweep/k={growth_rate},seed={seed}"
            write(tmp_path / name, error, seed=seed, model__growth_rate=growth_rate)
    answer = typed("decide", "outputs/sweep", "--baseline", "growth_rate=12", cwd=tmp_path)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert re.search(r"k=24\).* −1\.03   −1\.18 to −0\.89   0\.001 +better", answer.stdout)

    monkeypatch.setattr(logging, "lastResort", None)  # whose format the command would change

    def within(*words):
        monkeypatch.setattr(sys, "argv", ["densenet-results", *words])
        try:
            cli.main()
        except SystemExit as end:
            return end.code, *capsys.readouterr()
        return 0, *capsys.readouterr()

    status, out, _ = within("table", "--baseline", "growth_rate=12", "--format", "csv")
    assert status == 0
    assert [row["verdict"] for row in csv.DictReader(out.splitlines())] == ["", "better"]
    message = "--baseline=growth_rate=6: is none of the 2 settings"
    assert message in within("decide", "--baseline", "growth_rate=6")[0]
    message = "densenet-results: --margin=0.3: needs --baseline, the setting to compare with"
    assert within("table", "--margin", "0.3")[0] == message
    status, _, message = within("decide", "--margin", "0")
    assert status == 2
    assert "--margin: must be above 0" in message
