"""Saved figures: SVG files are small, and show the same as before they were made so."""

import re
from xml.etree import ElementTree

import numpy as np

from densenet_cli.figures import style
from densenet_cli.figures.drawing import Drawing


def _drawing():
    with style.styled():
        figure = style.new_figure(4, 3)
        axes = figure.subplots()
        axes.plot(np.linspace(0, 1, 50), np.linspace(0, 1, 50) ** 3, label="a name")
        axes.legend()
    return Drawing(figure, [{"x": 1}], "a note")


def _coordinates(text):
    return [float(number) for path in re.findall(r' d="([^"]*)"', text) for number in path.split()
            if re.fullmatch(r"-?[\d.]+", number)]  # fmt: skip


def test_an_svg_has_one_line_per_path_and_the_coordinates_of_matplotlib(tmp_path):
    (path, _) = _drawing().save(tmp_path / "a", ["svg"])
    text = path.read_text()
    ElementTree.fromstring(text)
    assert not [line for line in text.splitlines() if line.startswith(("L ", "Q ", "z"))]
    plain = tmp_path / "plain.svg"
    with style.styled():
        _drawing().figure.savefig(plain, metadata={"Date": None})
    assert len(text) < len(plain.read_text())
    assert np.allclose(_coordinates(text), _coordinates(plain.read_text()), atol=0.005)
