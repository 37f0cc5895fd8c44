"""Figures use our own matplotlib settings; those of the user neither break nor change them."""

import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest
from example_record import write

from densenet_cli.analysis.gradients import figure
from densenet_cli.analysis.gradients.gradient_norms import LayerGradient
from densenet_cli.analysis.network_label import NetworkLabel
from densenet_cli.process import child

SETTINGS = """\
backend: tkagg
text.usetex: True
image.lut: 3
font.size: 30
font.family: monospace
figure.figsize: 30, 1
figure.constrained_layout.use: False
axes.unicode_minus: False
axes.formatter.use_mathtext: True
axes.prop_cycle: cycler('color', ['red'])
lines.linewidth: 9
legend.loc: upper left
savefig.bbox: tight
savefig.format: pdf
savefig.transparent: True
svg.fonttype: none
svg.id: mine
pdf.compression: 0
path.sketch: 1, 100, 2
xtick.minor.visible: True
no.such.key: 3
"""
LINE = "from densenet_cli.commands.results import main; main()"
SLOW = [pytest.param(place, marks=pytest.mark.slow) for place in ("environment", "garbage", "pipe")]
PLOT = [
    "plot",
    "runs",
    "--kind",
    "growth_compression,memory",
    "--format",
    "png,svg,pdf",
    "--output",
    "out",
]


def _plotted(folder: Path, **environment: str) -> dict[str, bytes]:
    """The files that `densenet-results plot` writes there."""
    answer = subprocess.run(
        [sys.executable, "-c", LINE, *PLOT],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr == ""
    return {path.name: path.read_bytes() for path in (folder / "out").iterdir()}


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    _runs(folder)
    return _plotted(folder)


def _runs(folder: Path) -> None:
    for growth_rate in (12, 24):
        for compression in (0.5, 1.0):
            name = f"runs/{growth_rate}-{compression}"
            options = {"model__growth_rate": growth_rate, "model__compression": compression}
            write(folder / name, 60 / growth_rate + compression, **options)


@pytest.mark.parametrize("place", ["here", *SLOW])
def test_matplotlib_settings_of_the_user_do_not_change_a_figure(place, expected, tmp_path):
    _runs(tmp_path)
    environment = {"MPLBACKEND": "no-such-backend"}
    file = tmp_path / "matplotlibrc"
    if place == "environment":
        file = tmp_path / "mine"
        environment |= {"MATPLOTLIBRC": str(file)}
    if place == "pipe":
        os.mkfifo(file)
    else:
        file.write_bytes(b"\xff\xfe" if place == "garbage" else SETTINGS.encode())
    assert _plotted(tmp_path, **environment) == expected


@pytest.mark.slow
def test_matplotlib_settings_made_before_do_not_change_a_figure(tmp_path):
    def drawn(folder):
        layers = [LayerGradient(f"layer {place}", 1.0 / place, 0.1, 2.0 / place) for place in (1, 2, 3)]
        drawing = figure.draw({NetworkLabel("a_b $x$", "ResNet"): layers})
        drawing.save(folder / "gradients", ["png", "svg", "pdf"])
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    expected = drawn(tmp_path / "plain")
    (tmp_path / "mine").write_text(
        SETTINGS.replace("backend: tkagg\n", "").replace("no.such.key: 3\n", "")
    )
    with matplotlib.rc_context(fname=tmp_path / "mine"):
        assert drawn(tmp_path / "styled") == expected


@pytest.mark.slow
@pytest.mark.parametrize("module", ["densenet_cli.analysis.lesions.command"])
def test_matplotlib_is_loaded_without_settings_and_leaves_folder_and_environment(module, tmp_path):
    (tmp_path / "matplotlibrc").write_bytes(b"\xff")
    line = (
        "import os; from densenet_cli.process.load_torch import load_lightning\n"
        "load_lightning()\n"
        f"import {module}; print(os.getcwd(), os.environ['MPLBACKEND'], 'MATPLOTLIBRC' in os.environ)"
    )
    environment = {**os.environ, "MPLBACKEND": "nonsense"}
    answer = subprocess.run(
        [sys.executable, "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert answer.stdout == f"{tmp_path} nonsense False\n", answer.stderr


@pytest.mark.slow
def test_the_benchmark_of_a_plan_does_not_load_matplotlib(tmp_path):
    answer = subprocess.run(
        child.command("densenet_cli.sweep.plan.measurements:benchmark", "nowhere"),
        cwd=tmp_path,
        env={**child.environment(), "MPLBACKEND": "nonsense"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.stderr.endswith("No such file or directory: 'nowhere/config.json'\n")
