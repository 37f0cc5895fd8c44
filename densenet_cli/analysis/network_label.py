"""The titles, colours and markers by which figures tell networks apart."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.colors import to_hex, to_rgb
from matplotlib.lines import Line2D

from densenet_cli.figures import style


@dataclass(frozen=True)
class NetworkLabel:
    """What a figure calls a network.

    Attributes:
        title: as "DenseNet-BC (L=28, k=16)".
        family: as record.network_names.family gives it; decides the colour.
        trained: for an untrained network, the label of the same network after training.
    """

    title: str
    family: str
    trained: NetworkLabel | None = None


def marks(networks: Collection[NetworkLabel]) -> dict[NetworkLabel, style.Mark]:
    """A mark for each network: the first of a family has the family's, as in all our figures.

    An untrained network is drawn like the trained one, but pale and dotted.
    """
    trained = list(dict.fromkeys(network.trained or network for network in networks))
    firsts: dict[str, NetworkLabel] = {}
    for network in trained:
        firsts.setdefault(network.family, network)
    of_family = style.marks(firsts)
    chosen = {network: of_family[family] for family, network in firsts.items()}
    used = of_family.values()
    free = [mark for mark in [*style.FAMILIES.values(), *style.OTHERS] if mark not in used]
    rest = [network for network in trained if network not in chosen]
    chosen |= dict(zip(rest, itertools.cycle(free), strict=False))
    return {one: _pale(chosen[one.trained]) if one.trained else chosen[one] for one in networks}


def _pale(mark: style.Mark) -> style.Mark:
    red, green, blue = (np.array(to_rgb(mark.colour)) + to_rgb(style.PAPER)) / 2
    return style.Mark(to_hex((red, green, blue)), mark.marker, ":")


def legend(mark_of: Mapping[NetworkLabel, style.Mark]) -> list[Line2D]:
    """The handles of a legend, one for each network."""
    return [
        Line2D([], [], color=mark.colour, marker=mark.marker, ls=mark.line, label=network.title)
        for network, mark in mark_of.items()
    ]
