"""The networks that model= knows, as `densenet-model list` prints them.

The first line of each file of conf/model holds what the list shows, and tests compare it with the
network. So the list is printed at once, and needs no library that a network needs. A file of the user's
own may have such a line, too; without it the network is counted, for images of 32x32 and 10 classes.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from densenet_cli import units
from densenet_cli.config import resolvers
from densenet_cli.config.compose import CONF, compose, composing, resolved
from densenet_cli.figures.terminal import console, table
from densenet_cli.files.csv_file import write_csv
from densenet_cli.files.json_document import json_document
from densenet_cli.options import UserError
from densenet_cli.plain_text import first_line

FIRST_LINE = re.compile(
    r"# (?P<description>.*): (?P<parameters>[\d,]+) parameters, "
    r"(?P<multiply_adds>[\d,]+) multiply-adds "
    r"\((?P<classes>[\d,]+) classes, (?P<height>\d+)x(?P<width>\d+)\)"
)
HEADINGS = ("model=", "parameters", "multiply-adds", "description")


@dataclass(frozen=True)
class KnownNetwork:
    """A network that model= knows.

    Attributes:
        model: its name, as typed.
        parameters, multiply_adds: counted for one image of this size and this number of classes.
        image_height, image_width: in pixels.
        classes: the number of classes.
        description: from the first line of its file.
    """

    model: str
    parameters: int
    multiply_adds: int
    image_height: int
    image_width: int
    classes: int
    description: str


def networks(config_dir: str | None = None) -> list[KnownNetwork]:
    """All networks: those of conf/model, those of conf/model/history, then the user's own.

    Args:
        config_dir: a folder of the user's own choices, as densenet-run takes it.

    Raises:
        UserError: one of the user's networks cannot be built, or has the name of one of ours.
    """
    assert CONF is not None
    found = []
    with composing(config_dir) as search_path:
        for folder in [CONF, Path(config_dir)] if config_dir else [CONF]:
            for file in _sorted(folder / "model"):
                name = file.relative_to(folder / "model").with_suffix("").as_posix()
                comment = first_line(file.read_text(encoding="utf-8"))
                stated = FIRST_LINE.fullmatch(comment)
                found.append(_stated(name, stated) if stated else _counted(name, comment, search_path))
    return found


def show(form: str, config_dir: str | None = None) -> None:
    """Print all networks as a table, CSV or JSON; see `networks`."""
    found = networks(config_dir)
    if form == "csv":
        write_csv(map(asdict, found), sys.stdout)
    elif form == "json":
        sys.stdout.write(json_document(list(map(asdict, found))))
    else:
        groups: dict[str, list[KnownNetwork]] = {}
        for one in found:
            size = f"{one.image_height}x{one.image_width}"
            groups.setdefault(f"for images of {size} and {one.classes:,} classes", []).append(one)
        for title, group in groups.items():
            drawn = table(HEADINGS, map(_row, group), text=("model=", "description"))
            drawn.columns[0].no_wrap = True  # so that names can be copied
            console().print(title, drawn, sep="\n")


def _row(network: KnownNetwork) -> Sequence[str]:
    size, cost = units.count(network.parameters), units.count(network.multiply_adds)
    return network.model, size, cost, network.description


def _sorted(folder: Path) -> list[Path]:
    """The configuration files, those of subfolders last, numbers in names by size."""

    def key(file: Path) -> tuple[int, list[str | int]]:
        parts = re.split(r"(\d+)", file.relative_to(folder).with_suffix("").as_posix())
        return len(file.parts), [int(part) if part.isdecimal() else part for part in parts]

    return sorted(folder.rglob("*.yaml"), key=key)


def _stated(name: str, line: re.Match[str]) -> KnownNetwork:
    keys = ("parameters", "multiply_adds", "height", "width", "classes")
    parameters, multiply_adds, height, width, classes = (int(line[k].replace(",", "")) for k in keys)
    description = line["description"]
    return KnownNetwork(name, parameters, multiply_adds, height, width, classes, description)


def _counted(name: str, comment: str, search_path: list[str]) -> KnownNetwork:
    import torch

    from densenet_cli.config.build import build
    from densenet_cli.models import cost

    resolvers.register()
    config = resolved(compose([*search_path, f"model={name}"]))
    try:
        with torch.device("meta"):
            network = build("model", config["model"], num_classes=10)
        multiply_adds = cost.multiply_adds(network, 32)
    except (RuntimeError, ValueError) as error:
        hint = "to list it, state its size in the first line of its file as those of conf/model do"
        raise UserError(f"model={name}: cannot be counted: {first_line(error)}; {hint}") from error
    description = comment.removeprefix("#").strip() if comment.startswith("#") else ""
    return KnownNetwork(name, cost.count_parameters(network), multiply_adds, 32, 32, 10, description)
