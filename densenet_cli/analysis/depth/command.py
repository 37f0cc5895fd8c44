"""`densenet-model depth`: gradient norms before training, of networks typed as to densenet-run."""

from __future__ import annotations

import json
import shlex
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from densenet_cli.analysis.depth import figure
from densenet_cli.analysis.depth.untrained import Untrained, by_depth, growth, untrained
from densenet_cli.analysis.network_label import NetworkLabel
from densenet_cli.analysis.output import Output
from densenet_cli.config import resolvers
from densenet_cli.config.build import build, build_model, naming
from densenet_cli.config.compose import compose, composing, resolved
from densenet_cli.config.overrides import key
from densenet_cli.data.image_data import ImageData
from densenet_cli.figures.drawing import grouped
from densenet_cli.figures.terminal import table
from densenet_cli.options import UserError
from densenet_cli.plain_text import first_line
from densenet_cli.record.differences import differing, phrase
from densenet_cli.record.network_names import family
from densenet_cli.sweep.grid import expand

DEPTHS = (
    "model=plain,resnet model.depth=20,32,44,56,110",
    "model=preact_resnet_110 model.first_activation=in_branch model.depth=20,32,44,56,110",
    "model=densenet_bc model.depth=22,34,46,58,112",
)
SECTIONS = ("model", "data", "experiment", "hydra")  # an experiment chooses a model, too
HEADINGS = (
    "network",
    "layers",
    "gradient norm, first layer",
    "last layer",
    "factor per layer",
    "units passed",
)


def depth(arguments: Sequence[str], images: int, seeds: int, output: Output) -> None:
    """Measure gradient norms before training; write a figure and its numbers, and print a table.

    Args:
        arguments: lines of a sweep, each with model=, and overrides for all lines. Without any line:
            DEPTHS. Without data=: digits.
        images: training images, not augmented, in one batch that all networks see.
        seeds: draws of the weights of each network.
        output: where the figure and the results go.

    Raises:
        UserError: there is no such network, or it cannot take such images.
    """
    models, options = _composed(arguments)
    data: ImageData = build("data", options | {"batch_size": images})
    with naming("data"):
        data.prepare()
    with torch.device("meta"):  # reports a wrong network before anything is computed
        for model in models:
            build_model(model, data.num_classes, data.channels)
    batch = data.complete(next(iter(data.train_dataloader())))
    found = {
        network: _measure(own, batch, data.num_classes, seeds)
        for network, own in _kinds(models).items()
    }
    drawing = figure.draw(found, f"{len(batch[1])} training images of {data.name}")
    output.write("depth", drawing)
    documents = list(_documents(found))
    output.finish(documents, table(HEADINGS, map(_row, documents), text=HEADINGS[:1]))


def _composed(arguments: Sequence[str]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The section `model` of each different network, and the section `data` that all share."""
    lines = [argument for argument in arguments if "model" in _keys(argument)]
    for_all = [argument for argument in arguments if argument not in lines]
    resolvers.register()
    with composing():
        jobs = expand([f"data=digits {line}" for line in lines or DEPTHS], for_all, None)
        configs = [resolved(compose(job)) for job in jobs]
    data = [config["data"] | {"augment": False, "seed": 0, "batch_size": 0} for config in configs]
    if len(_distinct(data)) > 1:
        raise UserError("all networks must see the same images: type data= once, beside the lines")
    return _distinct(config["model"] for config in configs), data[0]


def _keys(line: str) -> list[str]:
    """The keys of a line. Raises UserError if one has no effect on gradients before training."""
    try:
        overrides = shlex.split(line)
    except ValueError as error:
        raise UserError(f"{line}: cannot be read: {error}") from error
    for override in overrides:
        if key(override).partition(".")[0].partition("/")[0] not in SECTIONS:
            rule = "only model and data matter before training; for several draws type --seeds"
            raise UserError(f"{override}: {rule}")
    return [key(override) for override in overrides]


def _distinct(sections: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({json.dumps(section, sort_keys=True): section for section in sections}.values())


def _kinds(models: Sequence[dict[str, Any]]) -> dict[NetworkLabel, list[dict[str, Any]]]:
    """The networks grouped by kind: those of one kind differ in depth only."""
    kinds = grouped(models, lambda model: json.dumps(_but_depth(model), sort_keys=True)).values()
    labels: dict[NetworkLabel, list[dict[str, Any]]] = {}
    for name, peers in grouped(kinds, lambda own: family(own[0])).items():
        options = [_but_depth(own[0]) for own in peers]
        varying = differing(options)
        for own, values in zip(peers, options, strict=True):
            phrases = [phrase(option, values[option]) for option in varying if option in values]
            labels[NetworkLabel(", ".join([name, *phrases]), name)] = own
    return labels


def _but_depth(model: dict[str, Any]) -> dict[str, Any]:
    return {f"model.{name}": value for name, value in model.items() if name != "depth"}


def _measure(
    models: Sequence[dict[str, Any]], batch: tuple[Tensor, Tensor], classes: int, seeds: int
) -> list[Untrained]:
    channels = batch[0].shape[1]
    builders = [partial(build_model, model, classes, channels) for model in models]
    try:
        return [one for builder in builders for one in untrained(builder, [batch], seeds)]
    except (RuntimeError, ValueError) as error:
        size = "x".join(map(str, batch[0].shape[2:]))
        message = f"{family(models[0])}: cannot take {len(batch[1])} images of {size}"
        hint = "choose others by data= and --images"
        raise UserError(f"{message}: {first_line(error)}; {hint}") from error


def _documents(found: Mapping[NetworkLabel, Sequence[Untrained]]) -> Iterator[dict[str, Any]]:
    """The numbers of each network and depth, over its draws."""
    for network, draws in found.items():
        shallower: list[Untrained] = []
        for layers, own in by_depth(draws).items():
            passed = [one.effective_depth for one in own if one.effective_depth is not None]
            yield {
                "network": network.title,
                "layers": layers,
                "draws": len(own),
                **_spread("first_layer_gradient_norm", [one.first for one in own]),
                **_spread("last_layer_gradient_norm", [one.layers[-1].weight for one in own]),
                "factor_per_layer": growth(shallower, own) if shallower else None,
                "units": own[0].units,
                "units_passed_mean": statistics.fmean(passed) if passed else None,
            }
            shallower = own


def _spread(name: str, values: Sequence[float]) -> dict[str, float | None]:
    """Mean and sample standard deviation; None for a single value."""
    std = statistics.stdev(values) if len(values) > 1 else None
    return {f"{name}_mean": statistics.fmean(values), f"{name}_std": std}


def _row(document: Mapping[str, Any]) -> list[str]:
    """A row of the table for a network and a depth."""
    factor, passed = document["factor_per_layer"], document["units_passed_mean"]
    return [
        document["network"],
        str(document["layers"]),
        *(_mean_and_deviation(document, f"{place}_layer") for place in ("first", "last")),
        "" if factor is None else f"× {factor:.3f}",
        "" if passed is None else f"{passed:.1f} of {document['units']}",  # empty for chains
    ]


def _mean_and_deviation(document: Mapping[str, Any], layer: str) -> str:
    """Mean ± standard deviation of a gradient norm; a single value alone."""
    mean, std = (document[f"{layer}_gradient_norm_{kind}"] for kind in ("mean", "std"))
    return f"{mean:.3g}" + ("" if std is None else f" ± {std:.3g}")
