"""Saved figures: SVG files are small, and show the same as before they were made so."""

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from densenet_cli.figures import style
from densenet_cli.figures.drawing import Drawing, _compact
from densenet_cli.figures.labels import place_labels

STUDY = Path(__file__).parents[2] / "outputs" / "study"


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


def test_a_text_with_an_outline_is_written_once():
    with style.styled():
        figure = style.new_figure(3, 2)
        axes = figure.subplots()
        axes.plot([1, 2], [1, 2])
        style.settle(figure)
        place_labels(axes, [(1, 1, "a network")])
    text = Drawing(figure, [], "").svg()
    ElementTree.fromstring(text)
    ((name, shape),) = re.findall(r'<path id="(shape_\d+)" d="([^"]*)"', text)
    assert text.count(shape) == 1
    outline, letters = re.findall(f'<use xlink:href="#{name}" style="([^"]*)"', text)
    assert "stroke-width: 1.8" in outline
    assert "stroke" not in letters


@pytest.mark.parametrize("path", sorted(STUDY.glob("*.svg")), ids=lambda path: path.name)
def test_the_figures_of_the_studies_are_small_and_whole(path):
    text = path.read_text()
    assert _compact(text) == text
    assert text.count("\n") < 600
    ElementTree.fromstring(text)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', text)) <= set(ids)
