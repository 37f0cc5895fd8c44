"""Runs on images that can have several labels: AUROC and F1 in place of the error; balanced errors."""

import json
from pathlib import Path

import pytest
from example_record import RESNET, fields, write
from rich.console import Console

from densenet_cli.record import schema
from densenet_cli.results import compare, formats, plots, watch
from densenet_cli.results.baseline import judge
from densenet_cli.results.decide import as_table
from densenet_cli.results.records import Run
from densenet_cli.results.report import content
from densenet_cli.results.settings import settings
from densenet_cli.results.table import rows, table


def record(error, f1=0.5, /, **options):
    found = fields(error, **options)
    found["results"] |= {"test_f1": f1, "test_f1_last": f1}
    for name in ("test_top5_error", "test_top5_error_last"):
        del found["results"][name]
    found["data"] |= {"name": "chest", "several_labels": True}
    found["config"]["data"]["_target_"] = "mine.Chest"
    return found


def run(error, f1=0.5, /, **options):
    return Run(Path("outputs/run"), record(error, f1, **options))


SEEDS = [run(16, 0.41, seed=0), run(14, 0.45, seed=1)]
RESNETS = [run(20, 0.3, seed=0, model=RESNET), run(19, 0.3, seed=1, model=RESNET)]


def test_a_record_is_read_only_with_a_possible_f1():
    assert schema.check_record(record(16)) is None
    assert schema.check_record(record(None) | {"results": {"test_f1": None}}) is None
    assert "results.test_f1=40" in schema.check_record(record(16, 40))
    assert "data.several_labels" in schema.check_record(
        {**(good := record(16)), "data": {**good["data"], "several_labels": 1}}
    )


def test_the_table_has_auroc_and_f1_and_no_error():
    found = table(rows(settings(SEEDS)))
    cells = dict(zip(found.headings, found.rows[0], strict=True))
    assert cells["AUROC"] == "0.8500 ± 0.0141"
    assert cells["F1"] == "0.4300 ± 0.0283"
    assert cells["best AUROC"] == "0.8520 ± 0.0141 †"
    assert not [heading for heading in found.headings if heading.endswith("%")]
    assert found.notes[0].startswith("AUROC: of the test images of the last epoch; mean ±")
    assert "† best test result of any epoch" in found.notes[2]


def test_beside_images_with_one_label_each_row_has_its_own_measure():
    found = table(rows(settings([*SEEDS, Run(Path("other"), fields(4.5))]), sort="-auroc"))
    columns = {heading: own for heading, *own in zip(found.headings, *found.rows, strict=True)}
    assert columns["AUROC"] == ["0.8500 ± 0.0141", ""]
    assert columns["error %"] == ["", "4.50"]
    assert found.notes[0].startswith("error, AUROC: of the test images of the last epoch")


def test_json_has_auroc_and_f1_beside_the_error_they_stand_for():
    (row,) = json.loads(formats.as_json(rows(settings(SEEDS))))
    assert (row["auroc_mean"], row["f1_mean"]) == (pytest.approx(0.85), pytest.approx(0.43))
    assert row["error_percent_mean"] == 15
    assert [one["auroc"] for one in row["runs"]] == [0.84, 0.86]
    (row,) = json.loads(formats.as_json(rows(settings([Run(Path("other"), fields(4.5))]))))
    assert (row["auroc_mean"], row["f1_mean"], row["balanced_error_percent_mean"]) == (None,) * 3


def test_the_balanced_error_is_shown_where_a_run_recorded_it():
    svhn = fields(4.5)
    svhn["results"]["test_balanced_error"] = 5.25
    found = table(rows(settings([Run(Path("outputs/run"), svhn)])))
    assert dict(zip(found.headings, found.rows[0], strict=True))["balanced %"] == "5.25"
    assert any(note.startswith("balanced: the mean over the classes") for note in found.notes)
    assert schema.check_record(svhn) is None


def test_decide_says_what_the_error_is_and_why_there_is_no_mcnemar():
    own, other = settings([*SEEDS, *RESNETS])
    found = as_table(judge([own, other], other))
    assert found.headings[2] == "100 − AUROC, %"
    assert [row[2] for row in found.rows] == ["19.50 ± 0.71", "15.00 ± 1.41"]
    assert any("100 % minus the mean AUROC" in note and "McNemar" in note for note in found.notes)
    plain = settings([Run(Path("x"), fields(4.5)), Run(Path("x"), fields(6, model=RESNET))])
    assert not any("AUROC" in note for note in as_table(judge(plain, plain[1])).notes)


def test_report_and_figures_name_it():
    found = settings([*SEEDS, *RESNETS])
    assert content.summary(found, SEEDS)["title"].startswith("Test AUROC on ")
    both = [*found, *settings([Run(Path("x"), fields(4.5))])]
    assert content.summary(both, SEEDS)["title"].startswith("Test error and AUROC on ")
    lines = content.results_table(found, [*SEEDS, *RESNETS])["lines"]
    assert lines[0].runs[0]["error"] == "AUROC 0.8400"
    drawing = plots.draw(found, "error_parameters")
    assert drawing.note.endswith("is 100 % minus the mean AUROC.")
    assert drawing.figure.axes[0].get_ylabel() == "test, 100 − AUROC (%)"
    assert "AUROC" not in plots.draw(both[2:], "error_parameters").note
    assert "AUROC" not in plots.draw(found, "training_time").note


def test_compare_and_watch_name_it(tmp_path, capsys):
    for name, one in (("a", record(16)), ("b", record(14, seed=1))):
        write(tmp_path / name, 16)
        (tmp_path / name / "run.json").write_text(json.dumps(one))
    compare.show(tmp_path / "a", tmp_path / "b")
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "test AUROC 0.8400 0.8600 +0.0200" in lines
    assert "test 100 − AUROC, % 16.00 14.00 −2.00" in lines
    write(tmp_path / "single", 4.5)
    compare.show(tmp_path / "a", tmp_path / "single")
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "test AUROC 0.8400 –" in lines
    assert "test error, % – 4.50" in lines
    console = Console(width=200)
    with console.capture() as captured:
        console.print(watch.view(tmp_path, watch.read_progress(tmp_path)))
    assert "AUROC 0.8400" in captured.get()
