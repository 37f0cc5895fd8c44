"""Names of runs, and the files and captions that studies write."""

from pathlib import Path

import pytest

from densenet_cli.analysis.output import Output
from densenet_cli.analysis.runs import shortest_names
from densenet_cli.figures import style
from densenet_cli.figures.drawing import Drawing
from densenet_cli.options import OptionError, UserError


def drawing(note):
    return Drawing(style.new_figure(2, 2), [{"x": 1}], note)


def test_equal_captions_are_printed_once(tmp_path, capsys):
    notes = ["Errors [in %].", "Others.", "Errors [in %]."]
    Output(tmp_path / "new", ["png"]).write("one", *map(drawing, notes))
    said = capsys.readouterr().out
    assert said.count("Errors [in %].") == said.count("Others.") == 1
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        f"one_{number}.{ending}" for number in (1, 2, 3) for ending in ("csv", "png")
    ]
    Output(tmp_path, ["svg"]).write("alone", drawing(""))
    assert str(tmp_path / "alone.svg") in capsys.readouterr().out.splitlines()


def test_formats_are_checked_before_anything_is_measured():
    output = Output.typed(Path("figures"), "png, svg,json")
    assert (output.formats, output.as_json) == (["png", "svg"], True)
    with pytest.raises(OptionError, match=r"--format=jpg: must be one of .*; for example --format="):
        Output.typed(Path("figures"), "png,jpg")


def test_runs_are_named_by_the_ends_of_their_paths():
    paths = ["a/seed=0", "b/seed=0", "b/seed=1", "b/seed=1/checkpoints/last.ckpt"]
    names = ["a/seed=0", "b/seed=0", "seed=1", "last.ckpt"]
    assert shortest_names([Path(path) for path in paths]) == names
    assert shortest_names([Path("b/seed=0")]) == ["seed=0"]
    with pytest.raises(UserError, match="a: is named twice"):
        shortest_names([Path("a"), Path("b/../a")])
