"""Analyses of untrained networks, which are typed as to densenet-run."""

from __future__ import annotations

import json
import shlex
import statistics
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.table import Table
from torch import Tensor

from densenet_cli.analysis.depth import figure as depth_figure
from densenet_cli.analysis.depth.depth import Untrained, by_depth, growth, untrained
from densenet_cli.analysis.network_label import Subject
from densenet_cli.analysis.runs import write
from densenet_cli.config import resolvers
from densenet_cli.config.build import build, naming
from densenet_cli.config.compose import compose, composing, key, resolved
from densenet_cli.data.image_data import ImageData
from densenet_cli.figures.drawing import grouped
from densenet_cli.figures.terminal import console
from densenet_cli.options import UserError
from densenet_cli.plain_text import first_line
from densenet_cli.record.differences import differing, phrase
from densenet_cli.record.network_names import family
from densenet_cli.sweep.grid import expand

DEPTHS = (
    "model=plain,resnet model.depth=20,32,44,56,110",
    "model=preact_resnet_110 model.depth=20,32,44,56,110",
    "model=densenet_bc model.depth=22,34,46,58,112",
)
SECTIONS = ("model", "data", "experiment", "hydra")  # an experiment is of a model, too


def depth(words: Sequence[str], images: int, seeds: int, folder: Path, formats: Sequence[str]) -> None:
    """Gradient norms before training, against depth: figure, numbers and a table.

    Args:
        words: lines of a sweep, each of them with model=, and words for all lines; without lines
            DEPTHS, without data= digits.
        images: training images, not augmented, in one batch; all networks see the same.
        seeds: draws of the weights of each network.
        folder: of the figure.
        formats: some of figures.drawing.FORMATS.

    Raises:
        UserError: if there is no such network, or it cannot take such images.
    """
    models, options = _typed(words)
    data: ImageData = build("data", options | {"batch_size": images})
    with naming("data"):
        data.prepare()
    with torch.device("meta"):  # a wrong network is known before the others are computed
        for model in models:
            build("model", model, num_classes=data.num_classes)
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())))
    found = {
        subject: _gradients(own, batch, data.num_classes, seeds)
        for subject, own in _kinds(models).items()
    }
    drawing = depth_figure.draw(found, f"{len(batch[1])} training images of {data.name}")
    write(folder, "depth", [drawing], formats)
    console().print(_table(found))


def _typed(words: Sequence[str]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The section `model` of each network, none twice, and the section `data` that all have."""
    lines = [word for word in words if "model" in _keys(word)]
    for_all = [word for word in words if word not in lines]
    resolvers.register()
    with composing():
        jobs = expand([f"data=digits {line}" for line in lines or DEPTHS], for_all, None)
        configs = [resolved(compose(job)) for job in jobs]
    data = [config["data"] | {"augment": False, "seed": 0, "batch_size": 0} for config in configs]
    if len(_distinct(data)) > 1:
        raise UserError("all networks must see the same images: type data= once, beside the lines")
    return _distinct(config["model"] for config in configs), data[0]


def _keys(line: str) -> list[str]:
    """The keys of a line, all of them such as decide what is measured here."""
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise UserError(f"{line}: cannot be read: {error}") from error
    for word in words:
        if key(word).partition(".")[0].partition("/")[0] not in SECTIONS:
            raise UserError(f"{word}: only model and data matter before training; draws are --seeds")
    return [key(word) for word in words]


def _distinct(sections: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({json.dumps(section, sort_keys=True): section for section in sections}.values())


def _kinds(models: Sequence[dict[str, Any]]) -> dict[Subject, list[dict[str, Any]]]:
    """The networks that differ in nothing but depth, together."""
    kinds = grouped(models, lambda model: json.dumps(_but_depth(model), sort_keys=True)).values()
    subjects: dict[Subject, list[dict[str, Any]]] = {}
    for name, peers in grouped(kinds, lambda own: family(own[0])).items():
        options = [_but_depth(own[0]) for own in peers]
        varying = differing(options)
        for own, values in zip(peers, options, strict=True):
            words = [phrase(option, values[option]) for option in varying if option in values]
            subjects[Subject(", ".join([name, *words]), name)] = own
    return subjects


def _but_depth(model: dict[str, Any]) -> dict[str, Any]:
    return {f"model.{name}": value for name, value in model.items() if name != "depth"}


def _gradients(
    models: Sequence[dict[str, Any]], batch: tuple[Tensor, Tensor], classes: int, seeds: int
) -> list[Untrained]:
    makers = [partial(build, "model", model, num_classes=classes) for model in models]
    try:
        return [one for make in makers for one in untrained(make, [batch], seeds)]
    except (RuntimeError, ValueError) as error:
        reason = first_line(error)
        size = "x".join(map(str, batch[0].shape[2:]))
        message = f"{family(models[0])}: cannot take {len(batch[1])} images of {size}: {reason}"
        raise UserError(f"{message}; choose others by data= and --images") from error


def _table(found: Mapping[Subject, Sequence[Untrained]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("network")
    headings = "layers", "gradient norm, first layer", "last layer", "a layer more", "units on a path"
    for heading in headings:
        table.add_column(heading, justify="right")
    for subject, draws in found.items():
        before = None
        for layers, own in by_depth(draws).items():
            factor = f"× {growth(before, own):.3f}" if before else ""
            last = [one.layers[-1].weight for one in own]
            first = [one.first for one in own]
            cells = str(layers), _spread(first), _spread(last), factor, _path(own)
            table.add_row(subject.title, *cells)
            before = own
    return table


def _path(draws: Sequence[Untrained]) -> str:
    """As "12.3 of 27": the mean number of units on a gradient's path; nothing for chains."""
    depths = [one.effective_depth for one in draws if one.effective_depth is not None]
    return f"{statistics.fmean(depths):.1f} of {draws[0].units}" if depths else ""


def _spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation, of one value alone the value."""
    deviation = f" ± {statistics.stdev(values):.3g}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.3g}{deviation}"
