"""Figures of more settings than can be told apart: they stay legible, and say what is left out."""

from pathlib import Path

from example_record import RESNET, write

from densenet_cli.figures import style
from densenet_cli.results import plots
from densenet_cli.results.plots import bars, error_cost, learning_curves
from densenet_cli.results.records import read_runs
from densenet_cli.results.settings import settings


def found():
    return settings(read_runs([Path("runs")])[0])


def write_curve(folder, *errors):
    rows = [f"{epoch},{error},1" for epoch, error in enumerate(errors, start=1)]
    Path(folder, "metrics.csv").write_text("\n".join(["epoch,test_error,train_loss", *rows, ""]))


def test_of_many_settings_the_bars_of_lowest_error_are_shown():
    for number in range(bars.SHOWN + 3):
        write(Path(f"runs/{number}"), 30.0 - number, model__growth_rate=number + 1)
    drawing = plots.draw(found(), "memory")
    shown = {point["setting"] for point in drawing.points}
    assert len(shown) == bars.SHOWN
    assert "DenseNet-BC (L=100, k=3)" not in shown
    assert "lowest error" in drawing.note


def test_many_points_are_drawn_small_without_lines_and_names_but_for_the_front():
    for number in range(error_cost.MANY + 1):
        error = 70.0 - number + 20 * (number % 2)  # the even ones are on the front
        write(Path(f"runs/{number}"), error, model__growth_rate=number + 1, parameters=1000 + number)
    drawing = plots.draw(found(), "error_parameters")
    (axes,) = drawing.figure.axes
    colour = style.FAMILIES["DenseNet-BC"].colour
    own = [line for line in axes.get_lines() if line.get_color() == colour]
    assert sum(len(line.get_xdata()) for line in own) == len(drawing.points) == error_cost.MANY + 1
    assert {line.get_linestyle() for line in own} == {"None"}
    named = {text.get_text() for text in axes.texts}
    assert named
    assert named <= {f"L=100, k={number + 1}" for number in range(0, error_cost.MANY + 1, 2)}
    assert "only those on the front are named" in drawing.note


def test_of_many_curves_the_best_of_each_family_and_of_all_are_drawn():
    for number in range(learning_curves.SHOWN + 3):
        write(Path(f"runs/{number}"), 20.0 - number, model__growth_rate=number + 1)
        write_curve(f"runs/{number}", 50, 20.0 - number)
    write(Path("runs/other"), 40.0, model=RESNET)
    write_curve("runs/other", 50, 40.0)
    drawing = plots.draw(found(), "learning_curves")
    drawn = {point["setting"] for point in drawing.points}
    best = {f"DenseNet-BC (L=100, k={number})" for number in range(5, learning_curves.SHOWN + 4)}
    assert drawn == {*best, "ResNet-110"}
    assert "8 are shown" in drawing.note
