"""Networks by the year in which they first appeared: the table and the figure."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from pathlib import Path

import pytest
import yaml
from example_record import CONFIG, RESNET, fields, write
from matplotlib.text import Annotation
from rich.console import Console

from densenet_cli.config.compose import CONF
from densenet_cli.options import UserError
from densenet_cli.record.network_names import family
from densenet_cli.results import formats, plots, report, systems
from densenet_cli.results.plots.by_year import SHOWN
from densenet_cli.results.records import Run, read_runs
from densenet_cli.results.settings import settings
from densenet_cli.results.table import rows, table

HISTORY = "densenet_cli.models.history"
LENET = {"_target_": f"{HISTORY}.lenet.LeNet5"}
ALEXNET = {"_target_": f"{HISTORY}.cifar_sized.alexnet_cifar"}
VGG = {"_target_": "densenet_cli.models.torchvision_models.torchvision_model", "name": "vgg16"}
VGG_WITH_BATCH_NORM = {"_target_": f"{HISTORY}.cifar_sized.vgg_cifar", "depth": 16}
RESNEXT = {
    "_target_": f"{HISTORY}.cifar_sized.resnext_cifar",
    "depth": 29,
    "cardinality": 8,
    "base_width": 8,
}
HIGHWAY = {"_target_": f"{HISTORY}.highway.HighwayNetwork"}
OURS = {"_target_": "mine.networks.SparseNet"}
STOCHASTIC_DEPTH = RESNET | {"survival_probability": 0.5}

SWEEP = [  # the networks of conf/sweep/systems.yaml, by the same names
    *(LENET, ALEXNET, {"_target_": f"{HISTORY}.network_in_network.NetworkInNetwork"}),
    *({"_target_": f"{HISTORY}.bn_inception.SmallInception"}, HIGHWAY),
    *(VGG_WITH_BATCH_NORM, RESNET | {"depth": 20}),
    {"_target_": "densenet_cli.models.preact_resnet.PreActResNet", "depth": 20},
    {"_target_": "densenet_cli.models.wide_resnet.WideResNet", "depth": 16, "widen_factor": 2},
    CONFIG["model"] | {"depth": 40},
    RESNEXT,
    {"_target_": f"{HISTORY}.cifar_sized.mobilenet_v1_cifar"},
    {"_target_": f"{HISTORY}.cifar_sized.mobilenet_v2_cifar"},
]


def of(*models):
    """A setting of each network, with errors of 10, 11, ... percent."""
    return settings([Run(Path("run"), fields(10.0 + i, model=model)) for i, model in enumerate(models)])


def column(found, heading):
    index = found.headings.index(heading)
    return [cells[index] for cells in found.rows]


def order(*models, **options):
    return column(table(rows(of(*models), **options)), "network")


def drawing(kind="history"):
    return plots.draw(settings(read_runs([Path("runs")])[0]), kind)


def write_runs(models, errors):
    for number, (model, error) in enumerate(zip(models, errors, strict=True)):
        write(Path(f"runs/{number}"), error, model=model)


def choice(name):
    """A choice of model as its file has it, and the files that it begins with."""
    found = {}
    content = yaml.safe_load((CONF / "model" / f"{name}.yaml").read_text(encoding="utf-8"))
    for base in content.pop("defaults", []):
        found |= choice(base) if base != "_self_" else {}
    return found | content


def test_each_family_of_a_system_is_that_of_a_model_config():
    names = [path.relative_to(CONF / "model").with_suffix("") for path in CONF.glob("model/**/*.yaml")]
    made = {family(choice(name)) for name in names}
    made |= {family(choice("densenet_bc") | {"compression": 1.0})}
    made |= {family(choice("densenet") | {"compression": 0.5})}
    known = [name for system in systems.systems() for name in system.networks]
    assert len(known) == len(set(known)) >= 30
    assert set(known) <= made


def test_years_are_those_of_the_papers():
    months = []
    for system in systems.systems():
        if arxiv := re.fullmatch(r"arXiv:(\d\d)(\d\d)\.\d+", system.source):
            months.append(arxiv.groups())
            assert system.year == 2000 + int(arxiv[1]), system.name
        elif volume := re.fullmatch(r"Proceedings of the IEEE (\d+)", system.source):
            assert system.year == 1912 + int(volume[1]), system.name  # volume 1 is of 1913
        elif blog := re.match(r"torch\.ch/blog/(\d{4})/", system.source):
            assert system.year == int(blog[1]), system.name
        else:
            assert system.source == f"NeurIPS {system.year}", system.name
    assert months == sorted(months)


def test_an_entry_that_is_not_a_system_is_refused(tmp_path, monkeypatch):
    text = systems.FILE.read_text(encoding="utf-8")
    for wrong in (text.replace("authors:", "author:", 1), text.replace("  year: 1998\n", "")):
        (tmp_path / "systems.yaml").write_text(wrong, encoding="utf-8")
        monkeypatch.setattr(systems, "FILE", tmp_path / "systems.yaml")
        with pytest.raises(TypeError, match=r"author|year"):
            systems.systems.__wrapped__()


def test_rows_are_ordered_by_year_and_those_without_one_go_last():
    networks = OURS, RESNET, VGG_WITH_BATCH_NORM, HIGHWAY, ALEXNET, VGG, LENET, STOCHASTIC_DEPTH
    found = table(rows(of(*networks), years=True))
    assert found.headings[:3] == ["year", "system", "network"]
    assert [cells[:3] for cells in found.rows] == [
        ["1998", "LeNet-5", "LeNet-5"],
        ["2012", "AlexNet", "AlexNet"],
        ["2014", "VGG", "vgg16"],
        ["2015", "Highway network", "Highway-19"],  # in July, ResNet in December
        ["2015", "VGG with batch norm", "VGG-16 with batch norm"],
        ["2015", "ResNet", "ResNet-110"],
        ["2016", "Stochastic depth", "ResNet-110 with stochastic depth"],
        ["", "", "SparseNet"],
    ]
    (note,) = [note for note in found.notes if note.startswith("year: ")]
    assert "LeNet-5, Proceedings of the IEEE 86; AlexNet, NeurIPS 2012; VGG, arXiv:1409.1556; " in note


def test_rows_of_one_year_and_system_are_ordered_as_in_papers():
    large, small = (fields(5.0, model=RESNET | {"depth": d}, parameters=d) for d in (110, 20))
    found = table(rows(settings([Run(Path("a"), large), Run(Path("b"), small)]), years=True))
    assert column(found, "network") == ["ResNet-20", "ResNet-110"]


def test_another_order_can_be_asked_for():
    models = VGG, OURS, LENET, HIGHWAY
    assert order(*models, years=True, sort="-year") == ["Highway-19", "vgg16", "LeNet-5", "SparseNet"]
    assert order(*models, years=True, sort="error") == ["vgg16", "SparseNet", "LeNet-5", "Highway-19"]
    by_name = ["Highway-19", "LeNet-5", "vgg16", "SparseNet"]
    assert order(*models, years=True, sort="system") == by_name


def test_sorting_by_year_shows_the_year():
    assert table(rows(of(VGG, LENET), sort="year")).rows[0][:2] == ["1998", "LeNet-5"]
    assert "year" not in table(rows(of(VGG, LENET), sort="error")).headings


def test_years_and_published_errors_are_shown_together():
    runs = [Run(Path("a"), fields(4.6)), Run(Path("b"), fields(9.0, model=LENET))]
    found = table(rows(settings(runs), paper=True, years=True))
    assert column(found, "year") == ["1998", "2016"]
    assert column(found, "published %") == ["", "4.51"]


@pytest.mark.parametrize(
    ("write_table", "beginning"),
    [
        (formats.as_markdown, "| year | system | network | data |"),
        (formats.as_latex, "\\begin{tabular}{rlllr"),
    ],
)
def test_tables_to_paste_have_years(write_table, beginning):
    text = write_table(table(rows(of(LENET, OURS), years=True)))
    assert text.startswith(beginning)
    assert re.search(r"1998 [|&] LeNet-5 [|&] LeNet-5 [|&] C10\+", text)
    assert re.search(r" [|&]  [|&] SparseNet [|&] C10\+", text)


def test_a_terminal_shows_years():
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(formats.as_rich(table(rows(of(VGG, LENET), years=True)), console))
    lines = console.export_text().splitlines()
    assert [line.split()[:2] for line in lines[3:5]] == [["1998", "LeNet-5"], ["2014", "VGG"]]


@pytest.mark.parametrize("years", [True, False])
def test_csv_and_json_have_year_system_and_source(years):
    found = rows(of(LENET, OURS), years=years)
    names = ("year", "system", "system_source")
    known = (1998, "LeNet-5", "Proceedings of the IEEE 86") if years else (None, None, None)
    read = json.loads(formats.as_json(found))
    assert {row["title"]: tuple(row[name] for name in names) for row in read} == {
        "LeNet-5": known,
        "SparseNet": (None, None, None),
    }
    for row, same in zip(csv.DictReader(io.StringIO(formats.as_csv(found))), read, strict=True):
        assert [row[name] for name in names] == [str(same[name] or "") for name in names]


def test_the_figure_has_a_column_per_network_in_order_of_appearance():
    for number, (model, error) in enumerate(
        [(VGG, 12.0), (LENET, 45.0), (HIGHWAY, 25.0), (RESNET, 10.0), (RESNET | {"depth": 20}, 17.0)]
    ):
        size = {"parameters": 1000 * number + 500, "multiply_adds": 9_000_000 + number}
        write(Path(f"runs/{number}"), error, model=model, **size)
    write(Path("runs/again"), 47.0, model=LENET, seed=1, parameters=1500, multiply_adds=9_000_001)
    drawn = drawing()
    errors, parameters, multiply_adds = drawn.figure.axes
    assert [point["year"] for point in drawn.points] == [1998, 2014, 2015, 2015, 2015]
    dots = next(line for line in errors.get_lines() if line.get_marker() == "o")
    assert list(dots.get_ydata()) == [46, 12, 25, 10, 17]
    assert [line.get_ydata()[0] for line in parameters.get_lines()] == [1500, 500, 2500, 3500, 4500]
    assert multiply_adds.get_lines()[0].get_ydata()[0] == 9_000_001
    lowest = next(line for line in errors.get_lines() if line.get_linestyle() == ":")
    assert list(lowest.get_ydata()) == [46, 12, 12, 10, 10]
    years = [(tick.get_text(), at) for tick, at in _ticks(multiply_adds)]
    assert years == [("1998", 0), ("2014", 1), ("2015", 3)]
    assert "n = 1 to 2" in drawn.note


def _ticks(axes):
    return zip(axes.get_xticklabels(), axes.get_xticks(), strict=True)


@pytest.mark.parametrize(
    "errors", [[30, 13, 10, 6, 6.2, 8.5, 8, 7.6, 5.9, 5.4, 4.6, 7.2, 5.8], [10.0] * 13]
)
def test_each_network_of_the_sweep_is_named_in_its_column(errors):
    write_runs(SWEEP, errors)
    figure = drawing().figure
    figure.draw_without_rendering()
    axes = figure.axes[0]
    texts = [text for text in axes.texts if isinstance(text, Annotation)]
    assert [text.xy[0] for text in texts] == list(range(len(SWEEP)))
    assert [text.get_text() for text in texts][:3] == ["LeNet-5", "AlexNet", "Network in\nNetwork"]
    boxes = [text.get_window_extent() for text in texts]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    centres = [(box.x0 + box.x1) / 2 for box in boxes]
    dots = axes.transData.transform([text.xy for text in texts])[:, 0]
    assert centres == pytest.approx(dots, abs=1)


def test_families_of_unknown_year_are_left_out_and_named():
    write_runs([LENET, ALEXNET, VGG, OURS], [10, 10, 10, 10])
    drawn = drawing()
    assert [point["system"] for point in drawn.points] == ["LeNet-5", "AlexNet", "VGG"]
    assert drawn.note.endswith("Not shown, since their year is unknown: SparseNet.")


def test_without_three_years_on_one_data_set_there_is_no_figure():
    write(Path("runs/a"), 10.0, model=HIGHWAY)
    write(Path("runs/b"), 10.0, model=RESNET)  # of the same year
    write(Path("runs/c"), 10.0, model=VGG)
    write(Path("runs/d"), 10.0, model=OURS)
    write(Path("runs/e"), 10.0, model=LENET, state="failed")
    write(Path("runs/f"), 10.0, model=LENET, data___target_="densenet_cli.data.cifar.Cifar100")
    assert drawing() is None
    with pytest.raises(UserError, match=r"--kind=history: nothing to draw; .* three different years"):
        plots.write(settings(read_runs([Path("runs")])[0]), ["history"], Path("out"))
    write(Path("runs/g"), 10.0, model=LENET)
    assert {point["data"] for point in drawing().points} == {"C10+"}


def test_of_each_network_the_setting_with_the_lowest_error_is_drawn():
    write_runs([LENET, VGG, RESNET], [10, 10, 10])
    write(Path("runs/better"), 8.0, model=VGG, epochs=5)
    assert [point["error_percent_mean"] for point in drawing().points] == [10, 8, 10]


def test_of_many_networks_the_best_of_each_system_is_drawn():
    depths = range(1, SHOWN + 1)
    resnets = [RESNET | {"depth": depth} for depth in depths]
    write_runs([LENET, VGG, *resnets], [10, 10, *(40 - depth for depth in depths)])
    assert [point["error_percent_mean"] for point in drawing().points] == [10, 10, 40 - SHOWN]


def test_the_report_shows_the_figure(monkeypatch):
    monkeypatch.setattr(plots, "KINDS", {"history": plots.KINDS["history"]})
    write_runs([LENET, VGG, RESNET], [45, 12, 10])
    runs, _ = read_runs([Path("runs")])
    page = report.write(settings(runs), runs, [], Path("report.html")).read_text(encoding="utf-8")
    assert page.count("<figure>") == page.count('<section id="history"') == 1
