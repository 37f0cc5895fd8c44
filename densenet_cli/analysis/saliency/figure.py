"""Images beside the saliency maps of several networks."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize, to_rgba
from matplotlib.figure import Figure
from torch import Tensor

from densenet_cli.analysis.network_label import NetworkLabel
from densenet_cli.analysis.saliency.saliency_maps import Images, Saliency
from densenet_cli.figures import style
from densenet_cli.figures.drawing import Drawing
from densenet_cli.plain_text import as_title

CELL = 1.3  # inches for an image with the text below it
FOR, AGAINST = style.COLOURS["vermilion"], style.COLOURS["blue"]
OPAQUE = 0.9
LONGEST_NAME = 20  # letters of a class or file
# Transparent at zero, so that the image is visible.
EVIDENCE = LinearSegmentedColormap.from_list("for", [to_rgba(FOR, 0), to_rgba(FOR, OPAQUE)])
DROP = LinearSegmentedColormap.from_list(
    "against and for",
    [
        (0.0, to_rgba(AGAINST, OPAQUE)),
        (0.5, to_rgba(AGAINST, 0)),
        (0.5, to_rgba(FOR, 0)),
        (1.0, to_rgba(FOR, OPAQUE)),
    ],
)
NOTE = (
    "Below each image: its true class; below the maps: the predicted class, and the class explained if "
    "it is another. Grad-CAM: where the last feature maps speak for the class, relative to the largest "
    "value of each map. Occlusion: how much the probability of the class drops (orange) or rises "
    "(blue) when a grey square hides the place, on one scale for all."
)


def draw(images: Images, found: Mapping[NetworkLabel, Saliency]) -> Drawing:
    """A row for each image: as the first network receives it, then the two maps of each network on it.

    Args:
        images: at least one.
        found: the maps of each network; at least one network.
    """
    rows, columns = len(images.names), 1 + 2 * len(found)
    strongest = max(float(own.occlusion.abs().max()) for own in found.values()) or 1.0
    drops = Normalize(-strongest, strongest)
    with style.styled():
        height = CELL * rows + 0.95
        figure = style.new_figure(CELL * columns, height)
        # Titles are measured before the images are made square, so they need more room at the top.
        figure.set_layout_engine("constrained", rect=(0, 0, 1, 1 - 0.08 / height))
        grid = figure.subplots(rows + 1, columns, height_ratios=[1] * rows + [0.05])
        grid[rows, 0].remove()
        _images(grid[:rows, 0], images, next(iter(found.values())).pixels)
        for number, (network, own) in enumerate(found.items()):
            left, right = grid[:, 2 * number + 1], grid[:, 2 * number + 2]
            _maps(left[:rows], own, _relative(own.grad_cam), EVIDENCE, Normalize(0, 1))
            _maps(right[:rows], own, own.occlusion, DROP, drops)
            for axes, words in zip(left[:rows], _predictions(own), strict=True):
                axes.set_xlabel(words)
            left[0].set_title(textwrap.fill(network.title, 36) + "\n", loc="left")
            left[0].set_title("Grad-CAM", loc="center", weight="normal", size=8)
            right[0].set_title("occlusion", loc="center", weight="normal", size=8)
            _bar(figure, left[rows], EVIDENCE, Normalize(0, 1), "share of the largest", [0, 1])
            ticks = [-strongest, 0, strongest]
            _bar(figure, right[rows], DROP, drops, "drop in probability", ticks)
    return Drawing(figure, _points(images, found), NOTE)


def _images(column: Sequence[Axes], images: Images, pixels: Tensor) -> None:
    for axes, name, true, image in zip(column, images.names, images.classes, pixels, strict=True):
        axes.imshow(image.numpy(), interpolation="nearest")
        _bare(axes)
        words = Path(name).name if true is None else f"is {true}"
        axes.set_xlabel(as_title(words, LONGEST_NAME))
    column[0].set_title("image", loc="center", weight="normal", size=8)


def _maps(
    column: Sequence[Axes], own: Saliency, maps: Tensor, colours: Colormap, scale: Normalize
) -> None:
    """Maps in colour on the images in grey."""
    for axes, image, values in zip(column, own.pixels, maps, strict=True):
        grey = image.mean(-1).numpy()
        axes.imshow(grey, cmap="gray", vmin=-0.8, vmax=1, interpolation="nearest")  # pale
        axes.imshow(values.numpy(), cmap=colours, norm=scale, interpolation="nearest")
        _bare(axes)


def _bare(axes: Axes) -> None:
    axes.set(xticks=[], yticks=[])
    axes.xaxis.label.set_fontsize(7)
    axes.grid(False)
    axes.spines[:].set_visible(False)


def _bar(
    figure: Figure, axes: Axes, colours: Colormap, scale: Normalize, words: str, ticks: list[float]
) -> None:
    bar = figure.colorbar(
        ScalarMappable(scale, colours), cax=axes, orientation="horizontal", ticks=ticks, format="%.2g"
    )
    bar.outline.set_visible(False)
    bar.set_label(words, size=7)
    axes.tick_params(labelsize=7, length=2)
    first, *_, last = axes.get_xticklabels()
    first.set_horizontalalignment("left")  # within the column
    last.set_horizontalalignment("right")


def _predictions(own: Saliency) -> list[str]:
    """As "cat (97 %)", the prediction; if another class is explained, "cat (97 %); dog (2 %)"."""
    return [
        _percent(predicted, confidence)
        + ("" if explained == predicted else f"; {_percent(explained, probability)}")
        for predicted, confidence, explained, probability in zip(
            own.predicted, own.confidence, own.explained, own.probability, strict=True
        )
    ]


def _percent(name: str, probability: Tensor) -> str:
    return f"{as_title(name, LONGEST_NAME)} ({100 * float(probability):.0f} %)"


def _relative(maps: Tensor) -> Tensor:
    """Each map (H, W) over its largest value; zeros if that is zero."""
    largest = maps.amax(dim=(1, 2), keepdim=True)
    return maps / largest.where(largest > 0, 1)


def _points(images: Images, found: Mapping[NetworkLabel, Saliency]) -> list[dict[str, Any]]:
    first = next(iter(found.values()))
    return [
        {
            "image": images.names[row],
            "class": images.classes[row],
            "network": network.title,
            "predicted": own.predicted[row],
            "confidence": float(own.confidence[row]),
            "explained": own.explained[row],
            "probability": float(own.probability[row]),
            **_summary("grad_cam", own.grad_cam[row], first.grad_cam[row]),
            **_summary("occlusion", own.occlusion[row], first.occlusion[row]),
        }
        for row in range(len(images.names))
        for network, own in found.items()
    ]


def _summary(method: str, values: Tensor, of_first: Tensor) -> dict[str, float | None]:
    """The largest value of a map, where it is, and Pearson's r with the map of the first network."""
    y, x = divmod(int(values.argmax()), values.shape[1])
    return {
        f"{method}_largest": float(values.max()),
        f"{method}_x": x,
        f"{method}_y": y,
        f"{method}_r_with_first": _pearson(values, of_first),
    }


def _pearson(one: Tensor, other: Tensor) -> float | None:
    """None for maps of different sizes, and if one map is constant."""
    if one.shape != other.shape:
        return None
    r = float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]).double())[0, 1])
    return None if math.isnan(r) else r
