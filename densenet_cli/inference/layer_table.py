"""The table of a network's layers that `densenet-model summary` shows."""

from __future__ import annotations

import torch
from rich import box
from rich.table import Table
from torch import nn

from densenet_cli.config import resolvers
from densenet_cli.config.build import build
from densenet_cli.config.compose import compose, composing, resolved
from densenet_cli.figures.terminal import console, plain
from densenet_cli.inference.layers import Layer, layers
from densenet_cli.options import UserError
from densenet_cli.plain_text import first_line, printable


def show(words: list[str], image_size: int, classes: int, batch_size: int, depth: int) -> None:
    """Print the layers of the network that words describe, as they are typed to densenet-run.

    Args:
        words: model=... and options of it.
        image_size: height and width of the images, in pixels.
        classes: width of the classifier.
        batch_size: images of a pass of which the time is taken.
        depth: modules that lie deeper are not shown.

    Raises:
        UserError: if there is no such network, or it cannot take such images.
    """
    resolvers.register()
    with composing():
        config = resolved(compose(words))
    network = build("model", config["model"], num_classes=classes)
    found = _measured(network, torch.randn(batch_size, 3, image_size, image_size))
    whole = found[0]
    name = printable(config["model"].get("name") or whole.kind)
    out = console()
    out.print(_table([layer for layer in found if layer.depth <= depth], whole))
    out.print(
        f"{name}: {whole.parameters:,} parameters, {whole.multiply_adds:,} multiply-adds an image of "
        f"{image_size}x{image_size}, {whole.bytes / 1e6:.1f} MB of outputs; "
        f"{1e3 * whole.seconds:.1f} ms for {batch_size} images in float32, "
        f"{torch.get_num_threads()} threads",
        highlight=False,
        soft_wrap=True,
    )


def _measured(network: nn.Module, images: torch.Tensor) -> list[Layer]:
    network = network.to(memory_format=torch.channels_last)
    try:
        return layers(network, images.to(memory_format=torch.channels_last))
    except (RuntimeError, ValueError) as error:
        reason = first_line(error)
        size = images.shape[-1]
        raise UserError(
            f"--image-size {size}: this network cannot take such images: {reason}; try --image-size 224"
        ) from error


def _table(shown: list[Layer], whole: Layer) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("layer")
    table.add_column("kind")
    for heading in ("output", "parameters", "multiply-adds", "time", "memory"):
        table.add_column(heading, justify="right")
    for layer in shown:
        table.add_row(
            plain("  " * layer.depth + (layer.name.rpartition(".")[2] or "network")),
            layer.kind,
            " x ".join(map(str, layer.shape)),
            f"{layer.parameters:,}" if layer.parameters else "",
            f"{layer.multiply_adds:,}" if layer.multiply_adds else "",
            f"{100 * layer.seconds / whole.seconds:.1f} %",
            f"{100 * layer.bytes / whole.bytes:.1f} %" if whole.bytes else "",
        )
    return table
