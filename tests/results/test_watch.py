"""The live table of a sweep, from its records."""

from __future__ import annotations

import io
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from example_record import write
from rich.console import Console

from densenet_cli.options import UserError
from densenet_cli.results.records import read_runs
from densenet_cli.results.watch import (
    Progress,
    _Reader,
    read_progress,
    seconds_left,
    summary,
    view,
    watch,
)

METRICS = """\
epoch,test_error,images_per_second,seconds
1,60,500,90
2,50,520,100
3,40,510,110
4,30,530,120
"""


def running(folder: Path, seconds_ago: float = 0, **options) -> Path:
    """A run of 10 epochs that has completed 4 and gives signs of life."""
    updated = datetime.now(timezone.utc) - timedelta(seconds=seconds_ago)
    times = {"updated": updated.isoformat(), "seconds": 420.0}
    unknown = {"results": {}, "images_per_second": None}
    write(folder, epochs=10, **{"state": "running", "epoch": 4, **times, **unknown, **options})
    (folder / "metrics.csv").write_text(METRICS)
    (folder / ".alive").touch()
    return folder


def text(folder: Path) -> str:
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(view(folder, read_progress(folder)))
    return " ".join(console.export_text().split())


def test_a_running_run_has_epoch_error_speed_and_time_left(tmp_path):
    running(tmp_path / "k=12", seconds_ago=30)
    (run,) = read_progress(tmp_path)
    assert (run.name, run.status, run.epoch, run.epochs) == ("k=12", "running", 4, 10)
    assert (run.error, run.images_per_second) == (30, 530)
    assert run.seconds == pytest.approx(450, abs=2)  # 420 until the record, 30 since
    assert run.seconds_left == pytest.approx(6 * 110 - 30, abs=2)  # the last three took 110 s each


def test_each_state_is_shown(tmp_path):
    running(tmp_path / "a")
    write(tmp_path / "b", 4.5)
    write(tmp_path / "c", state="failed", error="CUDA out of memory.", results={})
    (running(tmp_path / "d") / ".alive").unlink()
    write(tmp_path / "e", state="interrupted")
    (tmp_path / "f").mkdir()
    (tmp_path / "f/run.json").write_text("{")
    (running(tmp_path / "g", state="pruned") / ".alive").unlink()
    (tmp_path / "sweep.yaml").write_text("commands: []\njobs: [a, b, c, d, e, f, g, k=4, k=12]\n")
    found = {run.name: (run.status, run.note) for run in read_progress(tmp_path)}
    assert list(found) == ["a", "c", "d", "e", "f", "b", "g", "k=4", "k=12"]
    assert found["c"] == ("failed", "out of memory")
    assert found["d"] == ("killed", "")
    assert found["f"][0] == "unreadable"
    assert found["f"][1].startswith("cannot be read: Expecting property name")
    assert found["k=12"] == ("to do", "")
    shown = text(tmp_path)
    counts = "1 running, 1 failed, 1 killed, 1 interrupted, 1 unreadable, 1 done, 1 pruned, 2 to do"
    assert f"9 runs: {counts}" in shown
    assert "4.50" in shown
    assert "g pruned 4/10 30.00" in shown


def test_a_done_run_shows_its_result_and_needs_no_metrics(tmp_path):
    write(tmp_path / "a", 4.5)
    (tmp_path / "a/metrics.csv").write_text("nonsense\n1,2,3\n")
    (run,) = read_progress(tmp_path)
    assert (run.error, run.images_per_second, run.seconds, run.seconds_left) == (
        4.5,
        441.2,
        36000,
        None,
    )


def test_a_run_before_its_first_epoch(tmp_path):
    folder = running(tmp_path / "a", epoch=None, seconds=None)
    (folder / "metrics.csv").unlink()
    (run,) = read_progress(tmp_path)
    assert (run.status, run.epoch, run.error, run.seconds_left) == ("running", None, None, None)


def of(status, seconds=None, left=None):
    return Progress("run", status, seconds=seconds, seconds_left=left)


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([of("running", 40, 60), of("running", 70, 20)], 60),
        # Two side by side: 60 + 20 s left of these, 3 more of 100, 90 and 110 s, in the mean 100.
        ([of("running", 40, 60), of("running", 70, 20), of("done", 110), *[of("to do")] * 3], 190),
        ([of("running", 40), of("to do")], None),  # its first epoch has not ended
        ([of("done", 100), of("to do")], None),  # nobody runs
        ([of("done", 100), of("failed")], None),
    ],
)
def test_when_all_will_be_done(runs, expected):
    assert seconds_left(runs) == expected


def test_the_header_says_when_all_will_be_done():
    line = summary([of("running", 40, 3600), of("done", 100)])
    moment = datetime.now() + timedelta(seconds=3600)
    assert line.startswith("2 runs: 1 running, 1 done; all done in about 1:00:00 h, at ")
    assert line.endswith((f"{moment:%H:%M}", f"{moment - timedelta(seconds=60):%H:%M}"))


def test_a_folder_without_runs_is_one_message(tmp_path):
    with pytest.raises(UserError, match="no runs found; name the folder of a sweep"):
        watch(tmp_path)


@pytest.mark.parametrize("content", ["jobs: 3", "[]", "jobs: [", "\x00"])
def test_a_damaged_plan_is_named(tmp_path, content):
    (tmp_path / "sweep.yaml").write_text(content)
    with pytest.raises(UserError, match=r"sweep\.yaml (cannot be read|does not have|has jobs=3)"):
        watch(tmp_path)


def test_it_ends_when_all_runs_are_done(tmp_path, monkeypatch, capsys):
    write(tmp_path / "a")
    write(tmp_path / "b", state="failed", error="no")
    waited = []
    monkeypatch.setattr(time, "sleep", waited.append)
    watch(tmp_path, interval=60)
    assert not waited
    assert "2 runs: 1 failed, 1 done" in capsys.readouterr().out


@pytest.mark.parametrize("is_terminal", [True, False])
def test_it_follows_the_records(tmp_path, monkeypatch, capsys, is_terminal):
    monkeypatch.setenv("FORCE_COLOR" if is_terminal else "NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")  # lines are not broken
    running(tmp_path / "a")
    waited = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        write(tmp_path / "a", 4.5)

    monkeypatch.setattr(time, "sleep", sleep)
    watch(tmp_path, interval=7)
    assert waited == [7]
    first, _, last = capsys.readouterr().out.partition("1 run: 1 done")
    assert last
    assert "1 run: 1 running" in first  # without a terminal too, where nothing is drawn over


def test_of_many_runs_as_many_are_shown_as_the_terminal_has_lines():
    for number in range(30):
        write(Path(f"runs/k={number}"), 4.5)
    running(Path("runs/k=99"))
    console = Console(width=120, height=20, file=io.StringIO(), record=True)
    console.print(view(Path("runs"), read_progress(Path("runs")), console.height))
    lines = console.export_text().splitlines()
    assert len(lines) <= 20
    assert "31 runs: 1 running, 30 done" in lines[0]
    shown = [line.split()[0] for line in lines if line.strip().startswith("k=")]
    assert shown == ["k=99", *(f"k={number}" for number in range(len(shown) - 1))]
    assert lines[-1] == f"and {31 - len(shown)} more"


def test_a_finished_record_is_read_again_only_when_it_was_written_anew(tmp_path):
    running(tmp_path / "a")
    write(tmp_path / "b", 4.5)
    read = _Reader()
    (a, b), _ = read_runs([tmp_path], read)
    (a_again, b_again), _ = read_runs([tmp_path], read)
    assert b_again is b
    assert a_again is not a  # it was not finished
    (tmp_path / "b/run.json").unlink()
    write(tmp_path / "b", 3.5)
    assert [run.error for run in read_progress(tmp_path, read)] == [30, 3.5]
    (tmp_path / "b/run.json").unlink()
    assert [run.name for run in read_progress(tmp_path, read)] == ["a"]


def test_ctrl_c_ends_it_with_the_last_view(tmp_path, monkeypatch, capsys):
    running(tmp_path / "a")

    def sleep(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    watch(tmp_path)
    assert "1 run: 1 running" in capsys.readouterr().out


def test_once_shows_a_running_sweep_and_ends(tmp_path, capsys):
    running(tmp_path / "a")
    watch(tmp_path, interval=3600, once=True)
    assert "1 run: 1 running" in capsys.readouterr().out


def test_a_time_left_beyond_all_dates_is_not_shown(tmp_path):
    folder = running(tmp_path / "a")
    (folder / "metrics.csv").write_text("epoch,seconds\n1,1e10\n")
    (run,) = read_progress(tmp_path)
    assert summary([run]) == "1 run: 1 running"
