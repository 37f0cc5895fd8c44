"""Runs that skipped images which cannot be read: what tables, decisions and comparisons say of it."""

import json
from pathlib import Path

import pytest
from example_record import RESNET, fields

from densenet_cli.record import skipped_images
from densenet_cli.results import compare, formats
from densenet_cli.results.baseline import judge
from densenet_cli.results.decide import as_table
from densenet_cli.results.records import Run
from densenet_cli.results.settings import settings
from densenet_cli.results.skipped import notes_on_skipped
from densenet_cli.results.table import rows, table


@pytest.fixture
def run(tmp_path):
    """Makes the run of a seed on photos/, which skipped some of 100 test images."""

    def make(*skipped, name="a", root="photos", **options):
        record = fields(4.5, **options)
        record["config"]["data"]["root"] = root
        record["data"] |= {"sizes": {"train": 900, "validation": 0, "test": 100}}
        record["skipped_images"] = {"train": 0, "validation": 0, "test": len(skipped)}
        folder = tmp_path / name
        folder.mkdir()
        (folder / "run.json").write_text(json.dumps(record))
        if skipped:
            found = {f"{root}/test/{one}.png": "truncated" for one in skipped}
            skipped_images.write(folder, {"test": found})
        return Run(folder, record)

    return make


def test_a_table_says_that_all_runs_skipped_the_same(run):
    own = run("cat/1"), run("cat/1", name="b", root="/moved", model=RESNET)
    (note,) = notes_on_skipped(settings(own))
    assert note == (
        "Images that cannot be read were skipped, the same in all runs: 1 of 100 test images."
    )
    assert note in table(rows(settings(own))).notes
    (row, _) = json.loads(formats.as_json(rows(settings(own))))
    assert row["runs"][0]["skipped_images"]["test"] == 1


def test_tables_and_decisions_name_runs_that_skipped_others(run):
    own = settings([run("cat/1"), run("cat/2", name="b", model=RESNET)])
    found = table(rows(own)).notes
    expected = (
        "Images that cannot be read were skipped, not the same in all runs, so differences of their "
        "errors can come from that: DenseNet-BC (L=100, k=12): 1 of 100 test images | ResNet-110: 1 of "
        "100 test images."
    )
    assert expected in found
    assert expected in as_table(judge(own, own[0])).notes


def test_a_setting_s_seeds_may_skip_others_and_nothing_is_said_where_none_did(run):
    own = settings([run("cat/1", "cat/2"), run("cat/2", name="b", seed=1)])
    assert "1 to 2 of 100 test images" in notes_on_skipped(own)[0]
    assert notes_on_skipped(settings([run(name="c")])) == []


def test_a_comparison_of_two_runs_names_the_images(run, capsys):
    a, b = run("cat/1", "dog/2"), run(name="b")
    compare.show(a.folder, b.folder)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert any(line.startswith("The runs skipped different images") for line in lines)
    assert "test 2: test/cat/1.png, test/dog/2.png –" in lines
    document = compare.document(a.folder, b.folder)
    assert document["skipped_images"] == [
        {"name": "test", "a": ["test/cat/1.png", "test/dog/2.png"], "b": None}
    ]


def test_a_lost_list_is_said_and_the_number_is_known(run, caplog):
    one = run("cat/1")
    Path(one.folder, "skipped.json").write_text("{")
    assert "1 of 100 test images" in notes_on_skipped(settings([one]))[0]
    assert "skipped.json" in caplog.text
