"""Networks that stand beside each other on one figure."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.colors import to_hex, to_rgb
from matplotlib.lines import Line2D

from densenet_cli.figures import style


@dataclass(frozen=True)
class Subject:
    """A network that is looked at.

    Attributes:
        title: what it is called, as "DenseNet-BC (L=28, k=16)".
        family: the kind it belongs to, as results.networks.family tells it; decides its colour.
        trained: what became of it, if it is an untrained network.
    """

    title: str
    family: str
    trained: Subject | None = None


def marks(subjects: Collection[Subject]) -> dict[Subject, style.Mark]:
    """A mark for each: the first of a family has the family's, as on all our figures.

    An untrained network is drawn as what became of it, but pale and dotted.
    """
    finished = list(dict.fromkeys(subject.trained or subject for subject in subjects))
    firsts: dict[str, Subject] = {}
    for subject in finished:
        firsts.setdefault(subject.family, subject)
    own = style.marks(firsts)
    chosen = {subject: own[family] for family, subject in firsts.items()}
    free = [mark for mark in [*style.FAMILIES.values(), *style.OTHERS] if mark not in own.values()]
    rest = [subject for subject in finished if subject not in chosen]
    chosen |= dict(zip(rest, itertools.cycle(free), strict=False))
    return {one: _pale(chosen[one.trained]) if one.trained else chosen[one] for one in subjects}


def _pale(mark: style.Mark) -> style.Mark:
    red, green, blue = (np.array(to_rgb(mark.colour)) + to_rgb(style.PAPER)) / 2
    return style.Mark(to_hex((red, green, blue)), mark.marker, ":")


def legend(looks: Mapping[Subject, style.Mark]) -> list[Line2D]:
    """A line for each, to be named below the figure."""
    return [
        Line2D([], [], color=mark.colour, marker=mark.marker, ls=mark.line, label=subject.title)
        for subject, mark in looks.items()
    ]
