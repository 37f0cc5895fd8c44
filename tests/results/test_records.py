"""Records are found and read; a damaged or foreign one is named, and nothing else is lost."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest
from example_record import fields, write

from densenet_cli.options import UserError
from densenet_cli.results.records import Run, in_natural_order, read_metrics, read_run, read_runs
from densenet_cli.results.settings import settings
from densenet_cli.results.table import rows, table

DAMAGED = {
    "half": json.dumps(fields())[:300],
    "empty": "",
    "no record": "[1, 2, 3]",
    "another program's": '{"state": "done", "accuracy": 0.9}',
    "a later format": json.dumps({**fields(), "format": 99}),
    "an unknown state": json.dumps({**fields(), "state": "paused"}),
    "no configuration": json.dumps({**fields(), "config": None}),
    "results as a list": json.dumps({**fields(), "results": [4.6]}),
    "data as a text": json.dumps({**fields(), "data": "cifar10"}),
    "no network": json.dumps({**fields(), "config": {**fields()["config"], "model": {"depth": 100}}}),
    "nested too deeply": "[" * 200_000,
}


def test_runs_are_found_at_any_depth_each_once_and_in_natural_order(tmp_path):
    names = ["sweep/seed=2", "sweep/seed=10", "2026-11-22/12-00-00-abcdef"]
    for name in names:
        write(tmp_path / name)
    write(tmp_path / "sweep/seed=2/checkpoints/copy")  # within a run: its own affair
    os.symlink(tmp_path / "sweep", tmp_path / "again")
    runs, unreadable = read_runs([tmp_path, tmp_path / "sweep", tmp_path / "again/seed=2"])
    found = [str(run.folder.relative_to(tmp_path)) for run in runs]
    assert found == ["2026-11-22/12-00-00-abcdef", "sweep/seed=2", "sweep/seed=10"]
    assert unreadable == []


def test_natural_order():
    assert sorted(["k=12", "k=4", "10", "9"], key=in_natural_order) == ["9", "10", "k=4", "k=12"]


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere: there is no such folder"):
        read_runs([tmp_path / "nowhere"])


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_or_foreign_record_is_named_and_nothing_else_lost(tmp_path, text):
    write(tmp_path / "before"), write(tmp_path / "later")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged/run.json").write_text(text)
    runs, unreadable = read_runs([tmp_path])
    assert [run.folder.name for run in runs] == ["before", "later"]
    assert [item.path for item in unreadable] == [tmp_path / "damaged/run.json"]
    assert unreadable[0].reason
    assert str(tmp_path) not in unreadable[0].reason


def test_a_record_that_is_no_text_and_one_that_is_a_folder_are_named(tmp_path):
    (tmp_path / "binary").mkdir()
    (tmp_path / "binary/run.json").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "folder/run.json").mkdir(parents=True)
    runs, unreadable = read_runs([tmp_path])
    assert not runs
    assert [item.path.parent.name for item in unreadable] == ["binary", "folder"]


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    write(tmp_path / "open")
    write(tmp_path / "closed/run")
    scandir = os.scandir

    def guarded(path):  # root, who may run the tests, can read folders of any mode
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    runs, unreadable = read_runs([tmp_path])
    assert [run.folder.name for run in runs] == ["open"]
    assert [(item.path.name, item.reason) for item in unreadable] == [
        ("closed", "cannot be read: Permission denied")
    ]


def test_odd_values_in_a_record_break_no_table(tmp_path):
    odd = fields(parameters="many", seconds=float("inf"), device=["a"], seed={"a": 1})
    odd["results"] |= {"test_error": "low", "test_error_last": True, "best_on_test": "yes"}
    odd["config"]["model"] |= {"depth": [1], "compression": "half", "block_config": {"a": 1}}
    odd["config"]["recipe"] |= {"optimizer": None, "schedule": 3}
    odd["data"]["sizes"]["train"] = None
    write(tmp_path / "good", 4.5)
    write(tmp_path / "odd")
    (tmp_path / "odd/run.json").write_text(json.dumps(odd))
    runs, _ = read_runs([tmp_path])
    shown = table(rows(settings(runs), paper=True))
    assert len(shown.rows) == 2
    assert any("4.50" in cells for cells in shown.rows)


def test_nothing_that_a_record_names_is_imported(tmp_path, monkeypatch):
    (tmp_path / "planted.py").write_text("import pathlib; pathlib.Path('ran').touch()")
    monkeypatch.syspath_prepend(tmp_path)
    target = {"_target_": "planted.network"}
    write(tmp_path / "run", model=target, data___target_="planted.images", model__depth="${planted:1}")
    runs, _ = read_runs([tmp_path])
    assert table(rows(settings(runs), paper=True)).rows[0][0].startswith("network")
    assert "planted" not in sys.modules
    assert not (tmp_path / "ran").exists()


def test_one_run_by_its_folder(tmp_path):
    assert read_run(write(tmp_path / "run", seed=7)).seed == 7
    with pytest.raises(UserError, match=f"{tmp_path} holds no run: there is no run.json in it"):
        read_run(tmp_path)
    (tmp_path / "run/run.json").write_text("{")
    with pytest.raises(UserError, match=r"run\.json cannot be read"):
        read_run(tmp_path / "run")


def test_metrics_are_numbers_or_none(tmp_path):
    run = read_run(write(tmp_path))
    assert read_metrics(run) == []
    (tmp_path / "metrics.csv").write_text("epoch,train_loss,test_error\n1,2.25,80.5\n2,1.5,\n")
    assert read_metrics(run) == [
        {"epoch": 1, "train_loss": 2.25, "test_error": 80.5},
        {"epoch": 2, "train_loss": 1.5, "test_error": None},
    ]


@pytest.mark.parametrize("content", [b"epoch\n1,2\n", b"epoch\nfirst\n", b"epoch\n\xff\n"])
def test_a_damaged_metrics_file_is_named(tmp_path, content):
    run = read_run(write(tmp_path))
    (tmp_path / "metrics.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"metrics\.csv cannot be read"):
        read_metrics(run)


def test_a_run_that_gives_no_sign_of_life_is_broken_off(tmp_path):
    folder = write(tmp_path, state="running")
    assert read_run(folder).status == "broken off"
    (folder / ".alive").touch()
    assert read_run(folder).status == "running"
    past = time.time() - 61
    os.utime(folder / ".alive", (past, past))
    assert read_run(folder).status == "broken off"


def test_only_a_run_that_says_running_can_be_broken_off():
    assert [Run(Path(), fields(state=state)).status for state in ("done", "failed")] == [
        "done",
        "failed",
    ]
