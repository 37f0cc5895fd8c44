"""Records are found and read; a damaged or foreign one is reported, and the others are read."""

from __future__ import annotations

import json
import os
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
from example_record import fields, write

from densenet_cli.options import UserError
from densenet_cli.record.metrics import read_metrics
from densenet_cli.record.run_record import RunRecord, read_config, write_config
from densenet_cli.record.sweep_file import read_sweep
from densenet_cli.results.records import Run, in_natural_order, read_run, read_runs
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
def test_a_damaged_or_foreign_record_is_reported_and_others_are_read(tmp_path, text):
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


def test_strange_options_in_a_record_break_no_table(tmp_path):
    odd = fields()
    odd["config"]["model"] |= {"depth": [1], "compression": "half", "block_config": {"a": 1}}
    odd["config"]["recipe"] |= {"optimizer": None, "schedule": 3}
    odd["data"]["sizes"]["train"] = 0
    write(tmp_path / "good", 4.5)
    write(tmp_path / "odd")
    (tmp_path / "odd/run.json").write_text(json.dumps(odd))
    runs, _ = read_runs([tmp_path])
    shown = table(rows(settings(runs), paper=True))
    assert len(shown.rows) == 2
    assert any("4.50" in cells for cells in shown.rows)


ODD = {
    "parameters": "many",
    "multiply_adds": -1,
    "seconds": float("inf"),
    "train_seconds": 1e300,
    "images_per_second": [441.2],
    "peak_memory_bytes": 10**30,
    "device": ["a"],
    "processes": 0,
    "epochs": None,
    "epoch": 1.5,
    "error": {"a": 1},
    "identity": 7,
    "git": 7,
    "versions": None,
    "overrides": ["seed=0", 7],
    "updated": "yesterday",
    "started": "2026-11-22T02:00:00",
    "ended": "9999-12-31T23:59:59-12:00",
    "config": None,
    "config.seed": {"a": 1},
    "config.data.batch_size": 0.5,
    "config.model": [],
    "config.model._target_": 3,
    "config.recipe": None,
    "config.trainer": "cpu",
    "config.model.layers": "[" * 200 + "]" * 200,
    "results": None,
    "results.test_error": "low",
    "results.test_error_last": True,
    "results.test_error_best": 101,
    "results.validation_error_last": 1e308,
    "results.test_loss": float("nan"),
    "results.best_on_test": "yes",
    "results.best_epoch": {},
    "results.reported": ["best"],
    "data": None,
    "data.name": None,
    "data.num_classes": 0,
    "data.class_names": [1] * 10,
    "data.image_size": [32],
    "data.sizes": None,
    "data.sizes.train": None,
    "data.statistics": None,
    "data.statistics.mean": [None] * 3,
    "data.statistics.std": [0, 0, 0],
}
NO_PLAIN_DATA = ("seconds", "results.test_loss", "peak_memory_bytes", "config.model.layers")


@pytest.mark.parametrize("name", ODD)
def test_a_wrong_field_is_reported_and_other_records_are_read(tmp_path, name):
    write(tmp_path / "good"), write(tmp_path / "odd")
    odd = fields()
    node = odd
    *sections, key = name.split(".")
    for section in sections:
        node = node[section]
    node[key] = json.loads(ODD[name]) if str(ODD[name]).startswith("[[") else ODD[name]
    (tmp_path / "odd/run.json").write_text(json.dumps(odd))
    runs, unreadable = read_runs([tmp_path])
    assert [run.folder.name for run in runs] == ["good"]
    (item,) = unreadable
    assert item.path == tmp_path / "odd/run.json"
    assert item.reason.startswith("cannot be read: " if name in NO_PLAIN_DATA else f"has {name}=")


def test_unknown_keys_are_allowed(tmp_path):
    folder = write(tmp_path / "run", digest="0a", results={"test_error": 4.5, "calibration": 0.1})
    assert read_run(folder).fields["digest"] == "0a"


def test_a_lone_surrogate_in_a_record_is_kept_and_can_be_written_again(tmp_path):
    write(tmp_path, data={**fields()["data"], "name": "caf\udce9"})
    RunRecord.read(tmp_path).update(epoch=1)
    assert read_run(tmp_path).fields["data"]["name"] == "caf\udce9"


@pytest.mark.parametrize("name", ["run.json", "metrics.csv", "sweep.yaml", "config.yaml"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "large", "loop"])
def test_pipes_devices_and_huge_files_are_refused_at_once(tmp_path, name, kind):
    folder = write(tmp_path / "run")
    (folder / name).unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(folder / name)
    elif kind == "folder":
        (folder / name).mkdir()
    elif kind == "large":
        with (folder / name).open("wb") as file:
            file.truncate(2**40)  # a file with a hole
    else:
        (folder / name).symlink_to("/dev/zero" if kind == "device" else name)
    read = {
        "run.json": read_run,
        "metrics.csv": read_metrics,
        "sweep.yaml": read_sweep,
        "config.yaml": read_config,
    }
    with pytest.raises(UserError, match=rf"{name.replace('.', '[.]')} cannot be read: "):
        read[name](folder)


ALIASES = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}]\n" for a, b in pairwise("abcdefghijklmno")
)


@pytest.mark.parametrize(
    "content",
    [
        *("", "3", "[]", "commands: []", "commands: 3\njobs: []", "commands: [[1]]\njobs: []"),
        *("commands: []\njobs: [2026-11-22]", "{", "!!python/object:os.system {}", "\x00", ALIASES),
        *("[" * 5000, "commands: []\njobs: [" + "[" * 500 + "]" * 501, "commands: []\njobs: [null]"),
    ],
)
def test_a_plan_of_another_shape_is_named(tmp_path, content):
    (tmp_path / "sweep.yaml").write_text(content)
    with pytest.raises(UserError, match=r"^\S*sweep\.yaml (cannot be read|does not have|has [a-z]+=)"):
        read_sweep(tmp_path)


@pytest.mark.parametrize("content", ["", "3", "[1, 2]", "[[a]]", "{a: 1}", "[seed=0, null]", ALIASES])
def test_words_of_another_shape_are_named(tmp_path, content):
    write_config(tmp_path, fields()["config"], ["seed=0"])
    assert read_config(tmp_path) == (fields()["config"], ["seed=0"])
    (tmp_path / "overrides.yaml").write_text(content)
    with pytest.raises(UserError, match=r"contains no configuration of a run: \S*overrides\.yaml"):
        read_config(tmp_path)


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
    with pytest.raises(UserError, match=f"{tmp_path} contains no run: there is no run.json in it"):
        read_run(tmp_path)
    (tmp_path / "run/run.json").write_text("{")
    with pytest.raises(UserError, match=r"run\.json cannot be read"):
        read_run(tmp_path / "run")


def test_metrics_are_numbers_or_none(tmp_path):
    run = read_run(write(tmp_path))
    assert read_metrics(run.folder) == []
    (tmp_path / "metrics.csv").write_text("epoch,train_loss,test_error\n1,2.25,80.5\n2,1.5,\n")
    assert read_metrics(run.folder) == [
        {"epoch": 1, "train_loss": 2.25, "test_error": 80.5},
        {"epoch": 2, "train_loss": 1.5, "test_error": None},
    ]


@pytest.mark.parametrize(
    "content",
    [
        *(b"epoch\n1,2\n", b"epoch\nfirst\n", b"epoch\n\xff\n", b"epoch,test_error\n1,101\n"),
        *(b"epoch\n-1\n", b"epoch\ninf\n", b"epoch,seconds\n1,nan\n", b"epoch,loss\n1,1e300\n"),
        *(b"," * 300, b'epoch\n"' + b"1" * 200_000 + b'"\n'),
    ],
)
def test_a_damaged_metrics_file_is_named(tmp_path, content):
    run = read_run(write(tmp_path))
    (tmp_path / "metrics.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"metrics\.csv cannot be read"):
        read_metrics(run.folder)


def test_a_run_without_sign_of_life_is_killed(tmp_path):
    folder = write(tmp_path, state="running")
    assert read_run(folder).status == "killed"
    (folder / ".alive").touch()
    assert read_run(folder).status == "running"
    past = time.time() - 61
    os.utime(folder / ".alive", (past, past))
    assert read_run(folder).status == "killed"


def test_only_a_run_recorded_as_running_can_be_killed():
    assert [Run(Path(), fields(state=state)).status for state in ("done", "failed")] == [
        "done",
        "failed",
    ]
