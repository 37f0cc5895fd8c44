"""Figures of settings that were compared with a baseline show what is decided about them."""

from pathlib import Path

from example_record import RESNET, write

from densenet_cli.results import plots
from densenet_cli.results.baseline import find, judge
from densenet_cli.results.records import read_runs
from densenet_cli.results.settings import settings


def _settings():
    return settings(read_runs([Path("runs")])[0])


def _runs(depth, errors):
    for seed, error in enumerate(errors):
        write(Path("runs", f"{depth}-{seed}"), error, seed=seed, model__depth=depth)


def test_decisions_show_which_differences_from_the_baseline_hold():
    _runs(100, (4.4, 4.6, 5.0))
    _runs(40, (5.4, 5.6, 6.0))
    write(Path("runs/resnet"), 6.5, model=RESNET)
    found = _settings()
    judged = judge(found, find(found, "model.depth=100"), margin=0.3)
    drawing = plots.draw(found, "decisions", judged)
    words = {point["setting"]: point["verdict"] for point in drawing.points}
    assert words == {"DenseNet-BC (L=40, k=12)": "undecided", "ResNet-110": "undecided"}
    _runs(40, (5.41, 5.6, 6.0))  # not all by exactly one point
    found = _settings()
    judged = judge(found, find(found, "model.depth=100"), margin=0.3)
    drawing = plots.draw(found, "decisions", judged)
    deep, resnet = drawing.points
    assert (deep["verdict"], deep["n"], deep["paired"]) == ("worse", 3, True)
    assert (round(deep["difference_points"], 3), resnet["low_points"]) == (1.003, None)
    axes = drawing.figure.axes[0]
    marks = [line for line in axes.get_lines() if line.get_marker() not in ("None", "", None)]
    filled = [line.get_markerfacecolor() == line.get_color() for line in marks]
    assert filled == [True, False]
    assert "±0.3 points" in drawing.note
    assert plots.draw(found, "decisions") is None


def test_names_of_points_say_what_is_decided_about_them():
    _runs(100, (4.5, 4.6, 4.7))
    _runs(40, (5.5, 5.6, 5.8))
    _runs(190, (4.4, 4.8, 4.6))
    found = _settings()
    judged = judge(found, find(found, "model.depth=100"))
    drawing = plots.draw(found, "error_parameters", judged)
    names = {text.get_text() for text in drawing.figure.axes[0].texts}
    assert names >= {"L=100, k=12: baseline", "L=40, k=12: worse", "L=190, k=12"}
    words = {row["setting"]: row["verdict"] for row in drawing.points}
    assert sorted(words.values()) == ["baseline", "undecided", "worse"]
    assert words["DenseNet-BC (L=40, k=12)"] == "worse"
    assert "verdict" not in plots.draw(found, "error_parameters").points[0]
