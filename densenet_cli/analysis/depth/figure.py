"""Gradient norms before training: at the first layer against depth, and along the deepest networks."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from densenet_cli import units
from densenet_cli.analysis.depth.untrained import Untrained, by_depth
from densenet_cli.analysis.network_label import NetworkLabel, legend, marks
from densenet_cli.figures import style
from densenet_cli.figures.drawing import Drawing


def draw(found: Mapping[NetworkLabel, Sequence[Untrained]], images: str) -> Drawing:
    """Two panels with a line for each kind of network: the mean over draws, and a band of all draws.

    Args:
        found: the draws of each kind, all depths together.
        images: the images that the gradients were computed on, as "64 training images of digits".
    """
    with style.styled():
        figure = style.new_figure(style.PAGE, 3.4)
        against_depth, along = figure.subplots(1, 2)
        mark_of = marks(found)
        for network, draws in found.items():
            depths = by_depth(draws)
            first = [[draw.first for draw in own] for own in depths.values()]
            mark = mark_of[network]
            _line(against_depth, list(depths), first, mark)
            deepest = depths[max(depths)]
            outputs = zip(*([layer.output for layer in one.layers] for one in deepest), strict=True)
            places = range(1, max(depths) + 1)
            solid = dataclasses.replace(mark, line="-")  # dashes are lost where layers alternate
            _line(along, places, list(outputs), solid, every=max(len(places) // 10, 1))
        against_depth.set(title="first layer", xlabel="layers", ylabel="gradient norm, weights")
        along.set(
            title="deepest networks",
            xlabel="layer, from the input",
            ylabel="gradient norm, layer output",
        )
        for axes in (against_depth, along):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            style.logarithmic(axes, "y", units.magnitude)
        figure.legend(handles=legend(mark_of), loc="outside lower center", ncols=4)
    return Drawing(figure, _points(found), _note(found, images))


def _line(
    axes: Axes,
    places: Sequence[int],
    values: Sequence[Sequence[float]],
    mark: style.Mark,
    every: int = 1,
) -> None:
    """The mean of the values at each place, with a marker at every so many places, and their band."""
    means = [statistics.fmean(own) for own in values]
    drawn = {"color": mark.colour, "ls": mark.line, "ms": 4, "lw": 1, "markevery": every}
    axes.plot(places, means, mark.marker, **drawn)
    low, high = ([choose(own) for own in values] for choose in (min, max))
    axes.fill_between(places, low, high, color=mark.colour, alpha=0.15, lw=0)


def _note(found: Mapping[NetworkLabel, Sequence[Untrained]], images: str) -> str:
    seeds = len({one.seed for own in found.values() for one in own})
    draws = "One draw of the weights."
    if seeds > 1:
        draws = f"Mean of {seeds} draws of the weights; band: lowest to highest."
    return (
        f"Norm of the gradient of the loss before training, on {images}: with respect to the weights "
        "of the first layer, and with respect to the output of each layer of the deepest network for "
        f"one image. {draws}"
    )


def _points(found: Mapping[NetworkLabel, Sequence[Untrained]]) -> list[dict[str, object]]:
    return [
        {
            "network": network.title,
            "depth": one.depth,
            "seed": one.seed,
            "effective_depth": one.effective_depth,
            "units": one.units,
            "position": position,
            **dataclasses.asdict(layer),
        }
        for network, draws in found.items()
        for one in draws
        for position, layer in enumerate(one.layers, start=1)
    ]
