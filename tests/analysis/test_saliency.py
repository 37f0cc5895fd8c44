"""Saliency maps of several networks on one figure, and the numbers beside it."""

import csv
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from matplotlib.text import Text
from PIL import Image

from densenet_cli.analysis.network_label import NetworkLabel
from densenet_cli.analysis.output import Output
from densenet_cli.analysis.runs import Analysis
from densenet_cli.analysis.saliency.command import saliency
from densenet_cli.analysis.saliency.figure import draw
from densenet_cli.analysis.saliency.grad_cam import grad_cam
from densenet_cli.analysis.saliency.occlusion import occlusion
from densenet_cli.analysis.saliency.saliency_maps import Images, Saliency
from densenet_cli.data.augmentation import Scale
from densenet_cli.inference.trained_network import TrainedNetwork
from densenet_cli.models.resnet import ResNet
from densenet_cli.options import OptionError, UserError

CLASSES = ["grass", "sea", "stone"]


def trained(network=None, size=16):
    """A network as a run would give it, of images of 16x16 pixels."""
    torch.manual_seed(size)
    network = network or ResNet(3, 8).train()
    with torch.no_grad():
        network(torch.randn(8, 3, size, size))  # for the batch norms
    statistics = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.2]}
    scale = Scale.of(statistics, size, torch.device("cpu"))
    fields = {"config": {"recipe": {}}, "data": {}}
    return TrainedNetwork(
        network.eval(), CLASSES, (size, size), 3, 1.0, scale, "cpu", False, None, fields
    )


@dataclass(frozen=True)
class AnalysisOf(Analysis):
    """Of networks made here, on random test images."""

    given: dict = field(default_factory=dict)

    def networks(self, also_untrained=False):
        return ((NetworkLabel(name, "ResNet"), network) for name, network in self.given.items())

    def test_images(self, network, several_labels=False):
        chance = torch.Generator().manual_seed(network.image_size[0])
        pixels = torch.randint(256, (3, *network.image_size, 3), generator=chance).to(torch.uint8)
        return [
            (network.inputs(pixels[:2]), torch.tensor([2, 0])),
            (network.inputs(pixels[2:]), torch.tensor([1])),
        ]


def analysis_of(tmp_path, **networks):
    return AnalysisOf(list(networks), 3, None, Output(tmp_path, ["svg"]), given=networks)


def rows(tmp_path):
    with (tmp_path / "saliency.csv").open() as file:
        return list(csv.DictReader(file))


def test_numbers_are_those_of_both_methods_on_test_images(tmp_path):
    one, other = trained(), trained(ResNet(3, 14))
    saliency(analysis_of(tmp_path, one=one, other=other), [], "sea", ["stages.0"], 4)
    found = rows(tmp_path)
    assert [(row["image"], row["class"], row["network"]) for row in found] == [
        (str(number), name, network)
        for number, name in enumerate(["stone", "grass", "sea"], start=1)
        for network in ("one", "other")
    ]
    inputs = torch.cat([images for images, _ in analysis_of(tmp_path).test_images(one)])
    maps = {
        "grad_cam": [
            grad_cam(own.network, inputs, torch.ones(3).long(), "stages.0") for own in (one, other)
        ],
        "occlusion": [occlusion(own.network, inputs, torch.ones(3).long(), 4) for own in (one, other)],
    }
    for index, row in enumerate(found):
        picture, number = divmod(index, 2)
        own = (one, other)[number]
        chances = own.network(inputs).softmax(1)[picture]
        assert row["predicted"] == CLASSES[chances.argmax()]
        assert float(row["confidence"]) == pytest.approx(chances.max().item(), rel=1e-4)
        assert (row["explained"], float(row["probability"])) == (
            "sea",
            pytest.approx(chances[1].item(), rel=1e-4),
        )
        for method, pair in maps.items():
            values = pair[number][picture].numpy()
            y, x = np.unravel_index(values.argmax(), values.shape)
            assert (int(row[f"{method}_x"]), int(row[f"{method}_y"])) == (x, y)
            r = np.corrcoef(values.ravel(), pair[0][picture].numpy().ravel())[0, 1]
            assert float(row[f"{method}_r_with_first"]) == pytest.approx(r, abs=1e-3)


def test_images_of_any_size_are_named_and_unreadable_files_are_left_out(tmp_path):
    (tmp_path / "sea").mkdir()
    paths = [str(tmp_path / name) for name in ("sea/1.png", "broken.png", "holiday.png")]
    for path in (paths[0], paths[2]):
        pixels = np.random.default_rng(0).integers(256, size=(40, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    networks = analysis_of(tmp_path, small=trained(), large=trained(size=24))
    unreadable = saliency(networks, paths, None, [], None)
    assert [one.path for one in unreadable] == [paths[1]]
    found = rows(tmp_path)
    assert [(row["image"], row["class"]) for row in found] == 2 * [(paths[0], "sea")] + 2 * [
        (paths[2], "")
    ]
    assert all(row["explained"] == row["predicted"] for row in found)
    assert [row["occlusion_r_with_first"] for row in found][1::2] == ["", ""]  # sizes differ
    drawn = (tmp_path / "saliency.svg").read_text()
    for words in (
        "small",
        "large",
        "Grad-CAM",
        "occlusion",
        "is sea",
        "holiday.png",
        "drop in probability",
    ):
        assert f"<!-- {words} -->" in drawn
    chance = 100 * float(found[0]["confidence"])
    assert f"<!-- {found[0]['predicted']} ({chance:.0f} %) -->" in drawn


@pytest.mark.parametrize(("rows", "title"), [(1, "ResNet-20"), (2, "VGG-16"), (6, "DenseNet " * 7)])
def test_titles_are_within_the_figure(rows, title):
    maps, names = torch.rand(rows, 8, 8), ["sea"] * rows
    own = Saliency(names, maps[:, 0, 0], names, maps[:, 0, 0], torch.rand(rows, 8, 8, 3), maps, maps)
    images = Images(names, names, torch.rand(rows, 3, 8, 8))
    figure = draw(
        images, {NetworkLabel(title, "ResNet"): own, NetworkLabel("other", "ResNet"): own}
    ).figure
    figure.draw_without_rendering()
    titles = [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]
    assert len(titles) > 10
    for text in titles:
        box = text.get_window_extent()
        assert box.y1 <= figure.bbox.y1 + 0.5, text
        assert box.y0 >= -0.5, text


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        (
            {"class_name": "see"},
            UserError,
            "^one: --class=see: must be one of .*; for example --class=sea",
        ),
        ({"layers": ["a", "b", "c"]}, OptionError, "--layer=a b c: must be one module, or .* of the 2"),
        ({"layers": ["x"]}, UserError, "^one: --layer=x: is not one of "),
        ({"paths": ["x.png"] * 41}, UserError, "--pictures: 41 images: at most 40"),
        ({"paths": ["x.png"]}, UserError, "none of 1 image files can be read; x.png: "),
        ({}, UserError, "two and one have different test images; name image files for both"),
    ],
)
def test_errors_are_clear(tmp_path, options, error, said):
    given = {"paths": [], "class_name": None, "layers": [], "patch": None, **options}
    with pytest.raises(error, match=said):
        saliency(analysis_of(tmp_path, one=trained(), two=trained(size=24)), **given)
