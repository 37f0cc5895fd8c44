"""Figures show only the means of finished runs; the same data give the same file."""

import csv
import itertools
import math
from pathlib import Path

import pytest
from example_record import RESNET, fields, write
from matplotlib.text import Annotation
from PIL import Image

from densenet_cli import units
from densenet_cli.figures import style
from densenet_cli.figures.labels import spread
from densenet_cli.options import UserError
from densenet_cli.results import plots
from densenet_cli.results.plots.error_cost import front
from densenet_cli.results.plots.learning_curves import mean_curve
from densenet_cli.results.records import read_runs
from densenet_cli.results.settings import settings

CIFAR100 = "densenet_cli.data.cifar.Cifar100"


def _settings(folder="runs"):
    return settings(read_runs([Path(folder)])[0])


def _two_families():
    """DenseNet-BC of two depths with three seeds, a ResNet with one."""
    for seed, error in enumerate((4.4, 4.6, 5.0)):
        write(Path("runs", f"a{seed}"), error, seed=seed)
        write(
            Path("runs", f"b{seed}"),
            error + 1,
            seed=seed,
            model__depth=40,
            parameters=176_122,
            multiply_adds=72_365_352,
        )
    write(Path("runs/c"), 6.5, model=RESNET, parameters=1_727_962, multiply_adds=252_887_680)


def _metrics(folder, errors, losses):
    rows = [f"{i},{e},{v}" for i, (e, v) in enumerate(zip(errors, losses, strict=True), start=1)]
    Path(folder, "metrics.csv").write_text("\n".join(["epoch,test_error,train_loss", *rows, ""]))


def _drawn(axes):
    """The points of all markers of a panel."""
    caps = "_"  # the ends of error bars
    lines = [line for line in axes.get_lines() if line.get_marker() not in ("None", "", None, caps)]
    return {(x, round(y, 6)) for line in lines for x, y in zip(*line.get_data(), strict=True)}


@pytest.mark.parametrize("cost", ["parameters", "multiply_adds"])
def test_points_are_the_means_over_seeds(cost):
    _two_families()
    drawing = plots.draw(_settings(), f"error_{cost}")
    sizes = {"parameters": (769_162, 176_122, 1_727_962)}
    sizes["multiply_adds"] = (287_929_692, 72_365_352, 252_887_680)
    expected = set(zip(sizes[cost], (4.666667, 5.666667, 6.5), strict=True))
    assert _drawn(drawing.figure.axes[0]) == expected
    first = drawing.points[0]
    assert first["error_percent_mean"] == pytest.approx(14 / 3)
    # deviations -4/15, -1/15, 1/3: their squares add up to 42/225, divided by n - 1 = 2
    assert first["error_percent_std"] == pytest.approx(math.sqrt(42 / 225 / 2))
    assert [point["n"] for point in drawing.points] == [3, 3, 1]


def test_error_bars_are_one_standard_deviation_long():
    _two_families()
    axes = plots.draw(_settings(), "error_parameters").figure.axes[0]
    segments = [tuple(s[:, 1]) for c in axes.collections for s in c.get_segments()]
    deviation = math.sqrt(42 / 225 / 2)
    assert any(
        low == pytest.approx(14 / 3 - deviation) and high == pytest.approx(14 / 3 + deviation)
        for low, high in segments
    )


def test_pareto_front_of_points_by_hand():
    #          front   front   worse   equal   bigger, same error
    points = [(1, 9), (3, 4), (4, 5), (3, 4), (5, 4), (2, 9)]
    assert front(points) == [0, 1, 3]
    assert front([(2, 2)]) == [0]
    assert front([(3, 1), (1, 3), (2, 2)]) == [1, 2, 0]


def test_points_file_marks_the_front():
    _two_families()
    points = plots.draw(_settings(), "error_parameters").points
    assert [point["on_pareto_front"] for point in points] == [True, True, False]


def test_unfinished_runs_are_not_drawn():
    write(Path("runs/a"), 4.5)
    write(Path("runs/b"), 99.0, seed=1, state="failed")
    write(Path("runs/c"), 99.0, seed=2, state="interrupted")
    write(Path("runs/d"), 99.0, model=RESNET, state="running")
    for name in "abcd":
        _metrics(f"runs/{name}", [50, 4.5 if name == "a" else 99], [2, 1])
    for kind in ("error_parameters", "learning_curves", "memory"):
        points = plots.draw(_settings(), kind).points
        assert {point["setting"] for point in points} == {"DenseNet-BC (L=100, k=12)"}, kind
        assert {point["n"] for point in points} == {1}, kind
    assert _drawn(plots.draw(_settings(), "error_parameters").figure.axes[0]) == {(769_162, 4.5)}


def test_each_data_set_has_its_own_panel():
    write(Path("runs/a"), 4.5)
    write(Path("runs/b"), 22.0, data___target_=CIFAR100)
    axes = plots.draw(_settings(), "error_parameters").figure.axes
    assert [panel.get_title(loc="left") for panel in axes] == ["C10+", "C100+"]
    assert [_drawn(panel) for panel in axes] == [{(769_162, 4.5)}, {(769_162, 22.0)}]


def test_a_line_joins_networks_that_differ_only_in_size():
    for depth, size in ((40, 2e5), (100, 7e5)):
        for epochs in (10, 300):
            name = f"runs/{depth}-{epochs}"
            write(Path(name), depth / epochs, model__depth=depth, parameters=size, epochs=epochs)
    axes = plots.draw(_settings(), "error_parameters").figure.axes[0]
    joined = [
        list(line.get_ydata())
        for line in axes.get_lines()
        if line.get_marker() == "None" and line.get_color() == style.FAMILIES["DenseNet-BC"].colour
    ]
    assert [4.0, 10.0] in joined
    assert [40 / 300, 100 / 300] in joined


def test_curves_are_means_of_the_epochs_that_have_values():
    def row(epoch, error):
        return {"epoch": epoch, "test_error": error}

    runs = [
        [row(1.0, 50.0), row(2.0, math.nan), row(2.0, 10.0)],
        [row(1.0, 60.0), row(2.0, 14.0), row(3.0, None)],
    ]
    curve = mean_curve(runs, "test_error")
    assert curve.epochs == [1, 2]
    assert curve.means == [55.0, 12.0]
    assert curve.stds == [pytest.approx(math.sqrt(50)), pytest.approx(math.sqrt(8))]


def test_learning_curves_draw_error_and_loss():
    for seed, last in enumerate((4.0, 5.0)):
        write(Path(f"runs/{seed}"), last, seed=seed)
        _metrics(f"runs/{seed}", [60, 20, last], [2.0, 1.0, 0.5 + seed])
    error, loss = plots.draw(_settings(), "learning_curves").figure.axes
    assert list(error.get_lines()[0].get_ydata()) == [60, 20, 4.5]
    assert list(loss.get_lines()[0].get_ydata()) == [2.0, 1.0, 1.0]


def test_a_damaged_metrics_file_is_reported_and_other_curves_are_drawn():
    write(Path("runs/a"), 4.5)
    _metrics("runs/a", [60, 4.5], [2, 1])
    write(Path("runs/b"), 4.5, seed=1)
    Path("runs/b/metrics.csv").write_text("epoch,test_error\n1,many\n")
    drawing = plots.draw(_settings(), "learning_curves")
    assert "runs/b/metrics.csv" in drawing.note
    assert [point["test_error_percent_mean"] for point in drawing.points] == [60, 4.5]


def _grid():
    for k, theta, error in ((12, 0.5, 6.0), (12, 1.0, 5.5), (24, 0.5, 5.0)):
        for seed in (0, 1):
            write(
                Path(f"runs/{k}-{theta}-{seed}"),
                error + seed,
                seed=seed,
                model__growth_rate=k,
                model__compression=theta,
            )


def test_heat_map_has_a_row_for_k_and_a_column_for_compression():
    _grid()
    drawing = plots.draw(_settings(), "growth_compression")
    assert {(p["growth_rate"], p["compression"]): p["error_percent_mean"] for p in drawing.points} == {
        (12, 0.5): 6.5,
        (12, 1.0): 6.0,
        (24, 0.5): 5.5,
    }
    (axes,) = drawing.figure.axes
    texts = {text.get_text(): text.get_position() for text in axes.texts}
    assert texts["5.50"][:1] == (0,)  # θ = 0.5: the first column
    assert round(texts["5.50"][1]) == 1  # k = 24: the second row
    assert [text.get_text() for text in axes.texts].count("± 0.71, n = 2") == 3
    hatched = [patch for patch in axes.patches if patch.get_hatch()]
    assert [(round(p.get_x() + 0.48), round(p.get_y() + 0.47)) for p in hatched] == [(1, 1)]


def test_heat_maps_do_not_mix_depths():
    _grid()
    for k, theta in itertools.product((12, 24), (0.5, 1.0)):
        options = {"model__growth_rate": k, "model__compression": theta, "model__depth": 40}
        write(Path(f"runs/40-{k}-{theta}"), 7.0, **options)
    drawing = plots.draw(_settings(), "growth_compression")
    titles = [axes.get_title(loc="left") for axes in drawing.figure.axes]
    assert titles == ["L=100, bottleneck, C10+", "L=40, bottleneck, C10+"]


def test_each_device_has_its_own_bars():
    write(Path("runs/a"), 4.5, seconds=7200.0)
    write(Path("runs/b"), 4.5, seed=1, seconds=14400.0)
    write(Path("runs/c"), 4.5, seed=2, seconds=720_000.0, device="a CPU")
    drawing = plots.draw(_settings(), "training_time")
    means = {point["device"]: point["seconds_mean"] for point in drawing.points}
    assert means == {"NVIDIA H100, 32-true": 10_800.0, "a CPU, 32-true": 720_000.0}
    titles = [axes.get_title(loc="left") for axes in drawing.figure.axes]
    assert [title for title in titles if title] == [f"C10+: {device}" for device in means]
    assert drawing.points[0]["seconds_per_epoch_mean"] == pytest.approx(34_000 / 300)


def test_memory_bars_are_as_long_as_the_memory():
    write(Path("runs/a"), 4.5, peak_memory_bytes=3_000_000_000)
    (axes,) = plots.draw(_settings(), "memory").figure.axes
    assert [bar.get_width() for bar in axes.patches] == [3.0]
    assert axes.get_xlabel() == "peak memory (GB)"


def test_the_longest_bar_and_its_deviation_are_within_the_panel():
    for seed, gigabytes in ((0, 1), (1, 9)):
        write(Path(f"runs/{seed}"), 4.5, seed=seed, peak_memory_bytes=gigabytes * 1_000_000_000)
    (axes,) = plots.draw(_settings(), "memory").figure.axes
    assert axes.get_xlim()[1] > 5 + 32**0.5


def test_every_format_is_what_its_name_says():
    _two_families()
    paths = plots.write(_settings(), ["memory"], Path("out"), ("png", "svg", "pdf"))
    assert [path.name for path in paths] == ["memory.png", "memory.svg", "memory.pdf", "memory.csv"]
    png, svg, pdf, table = (path.read_bytes() for path in paths)
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert svg.startswith(b"<?xml")
    assert b"<svg" in svg
    assert pdf.startswith(b"%PDF-")
    assert table.startswith(b"data,device,")


def test_the_same_data_give_the_same_file():
    _two_families()
    for folder in ("one", "two"):
        plots.write(_settings(), ["error_parameters"], Path(folder), ("svg", "pdf"))
    for name in ("error_parameters.svg", "error_parameters.pdf", "error_parameters.csv"):
        assert Path("one", name).read_bytes() == Path("two", name).read_bytes(), name


def test_the_points_are_saved_beside_the_figure():
    _two_families()
    plots.write(_settings(), ["error_parameters"], Path("out"))
    rows = list(csv.DictReader(Path("out/error_parameters.csv").read_text().splitlines()))
    assert [row["family"] for row in rows] == ["DenseNet-BC", "DenseNet-BC", "ResNet"]
    assert float(rows[0]["error_percent_mean"]) == pytest.approx(14 / 3)
    assert float(rows[0]["parameters"]) == 769_162


def test_without_a_kind_all_figures_with_data_are_drawn():
    _two_families()
    names = {path.name for path in plots.write(_settings(), (), Path("out"))}
    drawn = {"error_parameters", "error_multiply_adds", "training_time", "memory"}
    assert names == {f"{kind}.{form}" for kind in drawn for form in ("png", "csv")}
    with Image.open("out/error_parameters.png") as image:
        assert image.width >= 900


@pytest.mark.parametrize(
    ("kind", "form", "words"),
    [
        ("growth_compression", "png", "several growth rates"),
        ("learning_curves", "png", "metrics.csv"),
        ("error_params", "png", "error_parameters"),
        ("memory", "gif", "png"),
    ],
)
def test_what_cannot_be_drawn_is_refused(kind, form, words):
    _two_families()
    with pytest.raises(UserError, match=words):
        plots.write(_settings(), [kind], Path("out"), [form])
    assert not Path("out").exists()


def test_without_finished_runs_nothing_is_drawn():
    write(Path("runs/a"), 4.5, state="failed")
    with pytest.raises(UserError, match="no finished run"):
        plots.write(_settings(), (), Path("out"))


def test_if_one_figure_cannot_be_drawn_none_is_written():
    _two_families()
    with pytest.raises(UserError, match="--kind=growth_compression"):
        plots.write(_settings(), ["memory", "growth_compression"], Path("out"))
    assert not Path("out").exists()


def test_text_of_a_record_is_no_formula():
    data = {**fields()["data"], "name": r"$\bad$"}
    write(Path("runs/a"), 4.5, device=r"$\frac{ costs $5", data=data, data___target_="x.Y")
    assert plots.draw(_settings(), "memory").points[0]["device"].startswith(r"$\frac{")
    plots.write(_settings(), ["memory", "error_parameters"], Path("out"))


def test_families_differ_without_colour():
    many = [*style.FAMILIES, *(f"network {number}" for number in range(6))]
    marks = style.marks(many).values()
    assert len({mark.marker for mark in marks}) == len(many)
    own = [style.FAMILIES[name] for name in style.FAMILIES]
    assert len({mark.marker for mark in own}) == len({str(mark.line) for mark in own}) == len(own)


def test_labels_do_not_overlap():
    for number in range(25):
        options = {"model__growth_rate": 12 + number, "parameters": 500_000 + 9_000 * number}
        write(Path(f"runs/{number}"), 5.0 - 0.01 * number, **options)
    figure = plots.draw(_settings(), "error_parameters").figure
    figure.draw_without_rendering()
    texts = [text for text in figure.axes[0].texts if isinstance(text, Annotation)]
    boxes = [text.get_window_extent() for text in texts]
    assert len(boxes) >= 3
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_names_keep_their_brackets_beside_points():
    write(Path("runs/a"), 10.0, parameters=100_000)
    target = "densenet_cli.models.history.cifar_sized.resnext_cifar"
    resnext = {"_target_": target, "depth": 29, "cardinality": 8, "base_width": 8}
    write(Path("runs/b"), 9.0, parameters=1_000_000, model=resnext)
    texts = plots.draw(_settings(), "error_parameters").figure.axes[0].texts
    assert [text.get_text() for text in texts] == ["L=100, k=12", "ResNeXt-29 (8x8d)"]


def test_magnitudes_are_written_in_full_or_as_powers_of_ten():
    numbers = 0, 0.01, 0.5, 30, 1000, 10_000, 3e6, 1e-3, 2e-12
    assert [units.magnitude(number) for number in numbers] == [
        *("0", "0.01", "0.5", "30", "1000", "10⁴", "3·10⁶", "10⁻³", "2·10⁻¹²")
    ]


def test_names_at_the_ends_of_lines_are_moved_apart():
    assert spread([0.5, 0.51, 0.9], 0.1, 0, 1) == pytest.approx([0.5, 0.6, 0.9])
    assert spread([0.98, 0.99], 0.1, 0, 1) == pytest.approx([0.9, 1.0])


def test_growth_rates_of_other_kinds_are_left_out_of_the_heat_map():
    for growth_rate in (12, 24, "24", None, [12]):
        for compression in (0.5, 1.0, "half"):
            name = f"runs/{growth_rate!r}-{compression}"
            write(Path(name), 5, model__growth_rate=growth_rate, model__compression=compression)
    points = plots.draw(_settings(), "growth_compression").points
    assert {(point["growth_rate"], point["compression"]) for point in points} == {
        *((12, 0.5), (12, 1.0), (24, 0.5), (24, 1.0))
    }


def test_a_name_of_any_length_leaves_room_for_the_figure():
    data = {**fields()["data"], "name": "x" * 100_000}
    write(Path("runs/a"), 4.5, data=data, data___target_="x.Y", device="y" * 100_000)
    drawing = plots.draw(_settings(), "memory")
    assert len(drawing.figure.axes[0].get_title(loc="left")) < 300
    assert drawing.figure.axes[0].get_position().width > 0
