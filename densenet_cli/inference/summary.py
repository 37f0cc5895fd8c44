"""The layers of a network: shapes, parameters, multiply-adds, and the time and memory they take."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from densenet_cli.config import resolvers
from densenet_cli.config.build import build_model
from densenet_cli.config.compose import compose, composing, resolved
from densenet_cli.figures.terminal import console, table
from densenet_cli.files.json_document import json_document
from densenet_cli.options import UserError
from densenet_cli.plain_text import counted, first_line, printable

HEADINGS = ("layer", "kind", "output", "parameters", "multiply-adds", "time", "memory")


@dataclass
class Layer:
    """A module of a network, with the modules inside it.

    Attributes:
        name: as in the state dict; empty for the network itself.
        kind: the module's class.
        parameters: their number; parameters that two layers share are counted in both.
        shape: of its output for one image, as (C, H, W).
        multiply_adds: for one image, see `models.cost.multiply_adds`.
        seconds: of a forward pass over the batch, the shortest of several.
        bytes: of the outputs of its innermost modules, for one image.
    """

    name: str
    kind: str
    parameters: int
    shape: tuple[int, ...] = ()
    multiply_adds: int = 0
    seconds: float = float("inf")
    bytes: int = 0

    @property
    def depth(self) -> int:
        """0 for the network, 1 for its children."""
        return self.name.count(".") + 1 if self.name else 0


class Images(NamedTuple):
    """A batch of random images.

    Attributes:
        number: of images.
        channels: 3 for RGB, 1 for grey levels.
        size: height and width in pixels.
    """

    number: int
    channels: int
    size: int


def show(
    overrides: list[str],
    images: Images,
    classes: int,
    depth: int,
    config_dir: str | None = None,
    as_json: bool = False,
) -> None:
    """Print the layers of the network that overrides describe.

    Args:
        overrides: model=... and its options, as typed to densenet-run.
        images: the batch of the timed forward passes.
        classes: number of classes.
        depth: modules nested more deeply are not shown.
        config_dir: a folder of the user's own choices, as densenet-run takes it.
        as_json: print a JSON document.

    Raises:
        UserError: there is no such network, or it cannot take such images.
    """
    resolvers.register()
    with composing(config_dir) as search_path:
        config = resolved(compose(search_path + overrides))
    network = build_model(config["model"], classes, images.channels)
    found = _measured(network, images)
    whole = found[0]
    name = printable(config["model"].get("name") or whole.kind)
    out, threads = console(), torch.get_num_threads()
    shown = [layer for layer in found if layer.depth <= depth]
    if as_json:
        size = {
            "image_size_pixels": images.size,
            "channels": images.channels,
            "classes": classes,
            "batch_size": images.number,
        }
        layers = list(map(_document, shown))
        document = {"network": name, **size, "cpu_threads": threads, "layers": layers}
        sys.stdout.write(json_document(document))
        return
    rows = [_row(layer, whole) for layer in shown]
    out.print(table(HEADINGS, rows, text=("layer", "kind")))
    out.print(
        f"{name}: {whole.parameters:,} parameters, {whole.multiply_adds:,} multiply-adds for one image "
        f"of {images.size}x{images.size}, {whole.bytes / 1e6:.1f} MB of outputs; "
        f"{1e3 * whole.seconds:.1f} ms for {images.number} images in float32 on "
        f"{counted(threads, 'CPU thread')}",
        soft_wrap=True,
    )


def _measured(network: nn.Module, images: Images) -> list[Layer]:
    network = network.to(memory_format=torch.channels_last)
    batch = torch.randn(images.number, images.channels, images.size, images.size)
    try:
        return layers(network, batch.to(memory_format=torch.channels_last))
    except (RuntimeError, ValueError) as error:
        reason = f"this network cannot take such images: {first_line(error)}"
        raise UserError(f"--image-size {images.size}: {reason}; try --image-size 224") from error


def _document(layer: Layer) -> dict[str, Any]:
    return {
        "name": layer.name,
        "kind": layer.kind,
        "depth": layer.depth,
        "output_shape": layer.shape,
        "parameters": layer.parameters,
        "multiply_adds": layer.multiply_adds,
        "batch_seconds": layer.seconds,
        "output_bytes": layer.bytes,
    }


def _row(layer: Layer, whole: Layer) -> Sequence[str]:
    return (
        "  " * layer.depth + (layer.name.rpartition(".")[2] or "network"),
        layer.kind,
        " x ".join(map(str, layer.shape)),
        f"{layer.parameters:,}" if layer.parameters else "",
        f"{layer.multiply_adds:,}" if layer.multiply_adds else "",
        f"{100 * layer.seconds / whole.seconds:.1f} %",
        f"{100 * layer.bytes / whole.bytes:.1f} %" if whole.bytes else "",
    )


def layers(network: nn.Module, images: Tensor, passes: int = 3) -> list[Layer]:
    """Measure the modules of a network that a forward pass calls, each before the modules inside it.

    DenseNets are computed module by module here, not by fused kernels.

    Args:
        network: maps images to logits; is left in evaluation mode.
        images: a batch (N, 3, H, W).
        passes: number of forward passes that are timed.
    """
    network.eval()
    found = {
        name: Layer(name, type(module).__name__, sum(p.numel() for p in module.parameters()))
        for name, module in network.named_modules()
    }
    with torch.no_grad(), _recording(network, found):
        for _ in range(passes):
            network(images)
    called = {name: layer for name, layer in found.items() if layer.seconds < float("inf")}
    _count_multiply_adds(network, images[:1], called)
    for name, layer in called.items():
        is_leaf = not any(other.startswith(f"{name}.") for other in called) and name
        for outer in called.values() if is_leaf else ():
            if outer.name in ("", name) or name.startswith(f"{outer.name}."):
                outer.bytes += _bytes(layer.shape, images)
    return list(called.values())


def _bytes(shape: tuple[int, ...], images: Tensor) -> int:
    return torch.Size(shape).numel() * images.element_size()


@contextmanager
def _recording(network: nn.Module, found: dict[str, Layer]) -> Iterator[None]:
    """Record shape and time of each call of a module within the context."""
    began: dict[str, float] = {}
    hooks = []

    def watch(name: str, module: nn.Module) -> None:
        def before(*_: Any) -> None:
            began[name] = time.perf_counter()

        def after(module: nn.Module, arguments: Any, output: Any) -> None:
            seconds = time.perf_counter() - began[name]
            layer = found[name]
            layer.seconds = min(layer.seconds, seconds)
            if isinstance(output, Tensor):
                layer.shape = tuple(output.shape[1:])

        hooks.extend([module.register_forward_pre_hook(before), module.register_forward_hook(after)])

    for name, module in network.named_modules():
        watch(name, module)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _count_multiply_adds(network: nn.Module, image: Tensor, called: dict[str, Layer]) -> None:
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(image)
    root = type(network).__name__
    for name, counts in counter.get_flop_counts().items():
        inner = name.removeprefix(root).removeprefix(".")
        if name.startswith(root) and inner in called:
            called[inner].multiply_adds = sum(counts.values()) // 2
