"""Error of DenseNets by growth rate k and compression θ: a heat map for each depth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle

from densenet_cli.figures import style
from densenet_cli.figures.drawing import Drawing, grouped
from densenet_cli.options import shown
from densenet_cli.plain_text import as_title
from densenet_cli.record.differences import acting_options, differing, phrase
from densenet_cli.results.plots.setting_labels import seeds
from densenet_cli.results.settings import Setting

Cells = dict[tuple[int, float], Setting]  # by (k, θ)

GROWTH_RATE, COMPRESSION = "model.growth_rate", "model.compression"
COLOURS = matplotlib.colormaps["Blues_r"]  # one hue from light to dark, readable in grey too
IN_TITLE = {"model.depth", "model.block_config", "model.bottleneck", "data._target_", "data.augment"}


def draw(settings: Sequence[Setting]) -> Drawing | None:
    """Mean error of the finished settings, rows k and columns θ, a panel per set of other options.

    Returns:
        None if there are no DenseNets with several k and several θ that are equal in all other options.
    """
    known = [item for item in settings if _is_densenet(item) and item.mean("error") is not None]
    tables = [
        _cells(own) for own in grouped(known, lambda item: shown(_other_options(item).items())).values()
    ]
    tables = [cells for cells in tables if all(len(axis) > 1 for axis in _axes(cells))]
    if not tables:
        return None
    items = [item for cells in tables for item in cells.values()]
    errors = [item.mean("error") or 0.0 for item in items]
    scale = Normalize(min(errors), max(errors) + 1e-9)
    figure, grid = style.panels(len(tables), height=1.2 + 0.5 * max(len(_axes(c)[0]) for c in tables))
    for axes, cells, title in zip(grid, tables, _titles(tables), strict=True):
        _panel(axes, cells, scale)
        axes.set_title(title)
    note = (
        f"Mean test error (%) ± sample standard deviation over seeds ({seeds(items)}) by growth rate "
    )
    note += "k and compression θ; darker is lower. Hatched: no finished run."
    return Drawing(figure, [_row(place, item) for c in tables for place, item in c.items()], note)


def _is_densenet(item: Setting) -> bool:
    options = acting_options(item.config)
    return all(isinstance(options.get(name), (int, float)) for name in (GROWTH_RATE, COMPRESSION))


def _other_options(item: Setting) -> dict[str, object]:
    options = acting_options(item.config)
    return {name: options[name] for name in sorted(options.keys() - {GROWTH_RATE, COMPRESSION})}


def _cells(own: list[Setting]) -> Cells:
    models = [item.config["model"] for item in own]
    return {
        (model["growth_rate"], model["compression"]): item
        for model, item in zip(models, own, strict=True)
    }


def _axes(cells: Cells) -> tuple[list[int], list[float]]:
    """The values of k and of θ, in ascending order."""
    return sorted({k for k, _ in cells}), sorted({compression for _, compression in cells})


def _titles(tables: list[Cells]) -> list[str]:
    """Depth and data set of each table, and the other options in which it differs from the others."""
    firsts = [next(iter(cells.values())) for cells in tables]
    options = [_other_options(item) for item in firsts]
    names = [name for name in differing(options) if name not in IN_TITLE]
    return [
        ", ".join([_network(item), item.data, *(phrase(n, own[n]) for n in names if n in own)])
        for item, own in zip(firsts, options, strict=True)
    ]


def _network(item: Setting) -> str:
    model = item.config["model"]
    size = "-".join(map(str, model.get("block_config") or [])) or f"L={model.get('depth')}"
    return as_title(f"{size}, bottleneck" if model.get("bottleneck") else size)


def _panel(axes: Axes, cells: Cells, scale: Normalize) -> None:
    rows, columns = _axes(cells)
    axes.set_xticks(range(len(columns)), [f"{value:g}" for value in columns])
    axes.set_yticks(range(len(rows)), map(str, rows))
    axes.set(xlabel="compression θ", ylabel="growth rate k")
    axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(-0.5, len(rows) - 0.5))
    axes.grid(False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for y, k in enumerate(rows):
        for x, compression in enumerate(columns):
            _cell(axes, x, y, cells.get((k, compression)), scale)


def _cell(axes: Axes, x: int, y: int, item: Setting | None, scale: Normalize) -> None:
    corner = (x - 0.48, y - 0.47)
    if item is None:
        axes.add_patch(Rectangle(corner, 0.96, 0.94, fc="none", ec=style.GREY, hatch="//", lw=0))
        return
    mean, std = item.mean("error") or 0.0, item.std("error")
    colour = COLOURS(0.15 + 0.8 * float(scale(mean)))
    axes.add_patch(Rectangle(corner, 0.96, 0.94, fc=colour, lw=0))
    lightness = 0.2126 * colour[0] + 0.7152 * colour[1] + 0.0722 * colour[2]
    ink = "#ffffff" if lightness < 0.5 else "#10131a"
    text: dict[str, Any] = {"ha": "center", "color": ink}
    axes.text(x, y + 0.03, f"{mean:.2f}", va="bottom", size=8.5, weight="bold", **text)
    spread = f"± {std:.2f}, n = {item.n}" if std is not None else f"n = {item.n}"
    axes.text(x, y - 0.06, spread, va="top", size=6, **text)


def _row(place: tuple[int, float], item: Setting) -> dict[str, object]:
    return {
        "data": item.data,
        "setting": item.title,
        "growth_rate": place[0],
        "compression": place[1],
        "error_percent_mean": item.mean("error"),
        "error_percent_std": item.std("error"),
        "n": item.n,
    }
