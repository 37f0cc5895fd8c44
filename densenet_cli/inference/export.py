"""Writes a trained network as ONNX, torch.export or safetensors, and checks the file."""

from __future__ import annotations

import importlib
import json
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from densenet_cli.config.build import build_model
from densenet_cli.data.augmentation import Scale
from densenet_cli.data.pixel_statistics import CONTRAST, Whitening
from densenet_cli.files.atomic_file import replace_file
from densenet_cli.inference.trained_network import TrainedNetwork
from densenet_cli.options import UserError, not_installed

NORMALISATION = "normalisation."  # the names of a whitening's tensors in a file of weights alone
TOLERANCE = 1e-4  # of the largest logit: other libraries add in another order
Forward = Callable[[Tensor], Tensor]
"""The forward pass of a file that was read again: (N, C, H, W) float32 -> logits (N, classes)."""


def export(trained: TrainedNetwork, form: str, path: Path, images: Tensor) -> float:
    """Write a network to a file that takes batches of any size, and check the file before it is kept.

    The input of the file is that of the network: normalised images (N, C, H, W) float32. Its metadata
    hold the classes and the normalisation. A whitening is too large for these: it becomes the first
    layer of the network, whose input is then of 0..255; a file of weights alone holds its tensors.

    Args:
        trained: the network, on the CPU and in float32.
        form: onnx, torch-export or safetensors.
        path: of the file; an existing file is replaced only if the new one passes the check.
        images: (N, H, W, C) uint8, two or more, for the check.

    Returns:
        The largest difference between logits of file and network, divided by the largest logit.

    Raises:
        UserError: packages for this format are missing, or the file gives other logits than the
            network.
    """
    write = {
        "onnx": _write_onnx,
        "torch-export": _write_torch_export,
        "safetensors": _write_safetensors,
    }
    network, inputs, expected = trained.network, trained.inputs(images), trained.logits(images)
    if isinstance(trained.scale, Whitening) and form != "safetensors":
        network, inputs = _Whitened(network, trained.scale).eval(), images.permute(0, 3, 1, 2).float()
    with tempfile.TemporaryDirectory(prefix="densenet-cli-") as scratch:
        part = Path(scratch) / path.name
        forward = write[form](trained, network, part, inputs[:2])
        difference = max(
            (forward(some) - logits).abs().max().item()
            for some, logits in ((inputs, expected), (inputs[:1], expected[:1]))
        )
        share = difference / expected.abs().max().item()
        if not share <= TOLERANCE:
            raise UserError(
                f"--format {form}: the file is not written: its logits differ from the network's by "
                f"{difference:.2g}; the largest logit is {expected.abs().max().item():.2g}"
            )
        with part.open("rb") as source:
            replace_file(path, lambda file: shutil.copyfileobj(source, file))
    return share


class _Whitened(nn.Module):
    """A network that whitens its images itself: bytes as (N, C, H, W) float32 -> logits."""

    mean: Tensor
    matrix: Tensor

    def __init__(self, network: nn.Module, whitening: Whitening) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", whitening.mean)
        self.register_buffer("matrix", whitening.matrix)

    def forward(self, images: Tensor) -> Tensor:
        whitened = Whitening(self.mean, self.matrix).whitened(images.permute(0, 2, 3, 1))
        return self.network(whitened.permute(0, 3, 1, 2))


def metadata(trained: TrainedNetwork, form: str) -> dict[str, str]:
    """What a program needs to use the file, each value as JSON or plain text."""
    fields = trained.fields
    return {
        "class_names": json.dumps(trained.class_names, ensure_ascii=False),
        **_input(trained.scale, trained.channels, form),
        "image_size": json.dumps(trained.image_size),
        # the share of the shorter side that the central square keeps, before it is resized
        "crop_fraction": json.dumps(trained.crop_fraction),
        "resizing": "bicubic",
        "antialias": json.dumps(trained.antialias),  # of the resizing
        "model": json.dumps(fields["config"]["model"]),
        **_output(trained),
        "densenet_cli": fields.get("versions", {}).get("densenet-cli", ""),
    }


def _input(scale: Scale | Whitening, channels: int, form: str) -> dict[str, str]:
    """The metadata about the input."""
    kind = "RGB" if channels == 3 else "grey levels (luma of ITU-R BT.601)"
    shape = f"(N, {channels}, height, width) float32"
    if isinstance(scale, Scale):
        mean = scale.mean.double().mul(1e6).round().div(1e6).tolist()  # (C,), or (height, width, C)
        std = [round(number, 6) for number in scale.std.tolist()]
        text = f"{kind}, (value / 255 - mean) / std, {shape}"
        return {"input": text, "mean": json.dumps(mean), "std": json.dumps(std)}
    if form != "safetensors":
        return {"input": f"{kind}, 0..255, {shape}; whitened by the first layer"}
    text = (
        f"{kind}, each image minus its mean and divided by its norm, times {CONTRAST:g}, minus "
        f"normalisation.mean, times normalisation.matrix; a row is height, width, channels; as {shape}"
    )
    return {"input": text}


def _output(trained: TrainedNetwork) -> dict[str, str]:
    """The metadata about the output, and how good it was: of several labels AUROC and F1, 0 to 1."""
    results = trained.fields["results"]
    error = results.get("test_error")
    measured = {"test_error": error}
    if trained.several_labels:
        auroc = None if error is None else round(1 - error / 100, 6)
        measured = {"test_auroc": auroc, "test_f1": results.get("test_f1")}
    probabilities = (
        "the sigmoid of each, its class alone" if trained.several_labels else "their softmax"
    )
    return {
        "output": f"logits (N, {len(trained.class_names)}) float32; probabilities: {probabilities}",
        "several_labels": json.dumps(trained.several_labels),
        **{name: json.dumps(value) for name, value in measured.items()},
    }


def _needed(form: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise not_installed(f"--format {form}", name, extra="export") from error


def _write_onnx(trained: TrainedNetwork, network: nn.Module, path: Path, inputs: Tensor) -> Forward:
    for name in ("onnx", "onnxscript"):
        _needed("onnx", name)
    runtime = _needed("onnx", "onnxruntime")
    program = torch.onnx.export(
        network,
        (inputs,),
        dynamo=True,
        verbose=False,
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )
    assert program is not None
    program.model.metadata_props.update(metadata(trained, "onnx"))
    program.save(path)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(
        session.run(None, {"images": images.contiguous().numpy()})[0]
    )


def _write_torch_export(
    trained: TrainedNetwork, network: nn.Module, path: Path, inputs: Tensor
) -> Forward:
    facts = {"metadata.json": json.dumps(metadata(trained, "torch-export"))}
    program = torch.export.export(network, (inputs,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No complete tensor found")  # of shared storages
        torch.export.save(program, path, extra_files=facts)
        return _without_gradients(torch.export.load(path).module())


def _write_safetensors(
    trained: TrainedNetwork, network: nn.Module, path: Path, inputs: Tensor
) -> Forward:
    """Weights alone; `model` in the metadata names the network."""
    safetensors = _needed("safetensors", "safetensors.torch")
    weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    if isinstance(trained.scale, Whitening):
        own = {"mean": trained.scale.mean, "matrix": trained.scale.matrix}
        weights |= {f"{NORMALISATION}{name}": tensor.contiguous() for name, tensor in own.items()}
    path.write_bytes(safetensors.save(weights, metadata(trained, "safetensors")))
    written = {
        name: tensor
        for name, tensor in safetensors.load_file(path).items()
        if not name.startswith(NORMALISATION)
    }
    model, classes = trained.fields["config"]["model"], len(trained.class_names)
    again = build_model(model, classes, trained.channels)
    again.load_state_dict(written)
    return _without_gradients(again.eval())


def _without_gradients(network: Callable[[Tensor], Any]) -> Forward:
    def forward(images: Tensor) -> Tensor:
        with torch.no_grad():
            return network(images)

    return forward
