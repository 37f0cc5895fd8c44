"""A figure of matplotlib's as part of a page: it takes the page's colours, light and dark."""

from __future__ import annotations

import re

from densenet_cli.figures.drawing import Drawing
from densenet_cli.figures.style import COLOURS


def inline_svg(drawing: Drawing, name: str) -> str:
    """The SVG element of a figure.

    Args:
        drawing: the figure.
        name: begins all its ids, which must differ from those of other figures of the page.

    Returns:
        Without the frame of a file of its own and without a size; colours are `var(--blue)` and so
        on, which the page defines.
    """
    text = drawing.svg()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    for colour, code in COLOURS.items():
        text = text.replace(code, f"var(--{colour})")
    return text


def width_inches(drawing: Drawing) -> float:
    """How wide the figure was drawn."""
    return float(drawing.figure.get_figwidth())
