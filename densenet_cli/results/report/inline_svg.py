"""A matplotlib figure as part of a page, in the page's colours, light or dark."""

from __future__ import annotations

import re

from densenet_cli.figures.drawing import Drawing
from densenet_cli.figures.style import COLOURS


def inline_svg(drawing: Drawing, name: str) -> str:
    """The SVG element of a figure.

    Args:
        drawing: the figure.
        name: a prefix for all its ids, which must differ from those of other figures on the page.

    Returns:
        Without XML header and size; colours are `var(--blue)` and so on, which the page defines.
    """
    text = drawing.svg()
    text = text[text.index("<svg") :]
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    for colour, code in COLOURS.items():
        text = text.replace(code, f"var(--{colour})")
    return text


def width_inches(drawing: Drawing) -> float:
    """The width of the figure."""
    return float(drawing.figure.get_figwidth())
