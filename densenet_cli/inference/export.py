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
from torch import Tensor

from densenet_cli.config.build import build_model
from densenet_cli.files.atomic_file import replace_file
from densenet_cli.inference.trained_network import TrainedNetwork
from densenet_cli.options import UserError, not_installed

TOLERANCE = 1e-4  # of the largest logit: other libraries add in another order
Forward = Callable[[Tensor], Tensor]
"""The forward pass of a file that was read again: (N, C, H, W) float32 -> logits (N, classes)."""


def export(trained: TrainedNetwork, form: str, path: Path, images: Tensor) -> float:
    """Write a network to a file that takes batches of any size, and check the file before it is kept.

    The input of the file is that of the network: normalised images (N, C, H, W) float32. Its metadata
    hold the classes and the normalisation.

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
    inputs, expected = trained.inputs(images), trained.logits(images)
    with tempfile.TemporaryDirectory(prefix="densenet-cli-") as scratch:
        part = Path(scratch) / path.name
        forward = write[form](trained, part, inputs[:2])
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


def metadata(trained: TrainedNetwork) -> dict[str, str]:
    """What a program needs to use the file, each value as JSON or plain text."""
    fields, scale, channels = trained.fields, trained.scale, trained.channels
    kind = "RGB" if channels == 3 else "grey levels (luma of ITU-R BT.601)"
    return {
        "class_names": json.dumps(trained.class_names, ensure_ascii=False),
        "input": f"{kind}, (value / 255 - mean) / std, (N, {channels}, height, width) float32",
        "image_size": json.dumps(trained.image_size),
        "mean": json.dumps([round(number, 6) for number in scale.mean.tolist()]),
        "std": json.dumps([round(number, 6) for number in scale.std.tolist()]),
        "crop_fraction": json.dumps(
            trained.crop_fraction
        ),  # share of the shorter side that the central crop keeps
        "model": json.dumps(fields["config"]["model"]),
        "test_error": json.dumps(fields["results"].get("test_error")),
        "densenet_cli": fields.get("versions", {}).get("densenet-cli", ""),
    }


def _needed(form: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise not_installed(f"--format {form}", name, extra="export") from error


def _write_onnx(trained: TrainedNetwork, path: Path, inputs: Tensor) -> Forward:
    for name in ("onnx", "onnxscript"):
        _needed("onnx", name)
    runtime = _needed("onnx", "onnxruntime")
    program = torch.onnx.export(
        trained.network,
        (inputs,),
        dynamo=True,
        verbose=False,
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )
    assert program is not None
    program.model.metadata_props.update(metadata(trained))
    program.save(path)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(
        session.run(None, {"images": images.contiguous().numpy()})[0]
    )


def _write_torch_export(trained: TrainedNetwork, path: Path, inputs: Tensor) -> Forward:
    program = torch.export.export(
        trained.network, (inputs,), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No complete tensor found")  # of shared storages
        torch.export.save(program, path, extra_files={"metadata.json": json.dumps(metadata(trained))})
        return _without_gradients(torch.export.load(path).module())


def _write_safetensors(trained: TrainedNetwork, path: Path, inputs: Tensor) -> Forward:
    """Weights alone; `model` in the metadata names the network."""
    safetensors = _needed("safetensors", "safetensors.torch")
    weights = {name: tensor.contiguous() for name, tensor in trained.network.state_dict().items()}
    path.write_bytes(safetensors.save(weights, metadata(trained)))
    model, classes = trained.fields["config"]["model"], len(trained.class_names)
    network = build_model(model, classes, trained.channels)
    network.load_state_dict(safetensors.load_file(path))
    return _without_gradients(network.eval())


def _without_gradients(network: Callable[[Tensor], Any]) -> Forward:
    def forward(images: Tensor) -> Tensor:
        with torch.no_grad():
            return network(images)

    return forward
