"""Exported networks that were trained on images normalised by pixels."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_run import TINY

from densenet_cli.data.digits import Digits
from densenet_cli.inference import trained_network
from densenet_cli.inference.export import export


@pytest.fixture
def digits():
    """Test images (20, 8, 8, 3) uint8."""
    data = Digits()
    data.prepare()
    return data.some_test_images(20)[0]


def trained(typed, kind):
    words = [*TINY, "epochs=1", f"data.normalise={kind}", "hydra.run.dir=run"]
    assert typed(*words, "++trainer.limit_train_batches=3") == (0, "")
    return trained_network.load(Path("run"), "cpu", "32-true")


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "torch-export"])
def test_a_whitening_is_the_first_layer_of_the_file(typed, digits, form):
    pytest.importorskip({"onnx": "onnxruntime"}.get(form, "torch"))
    network, path = trained(typed, "zca"), Path("network.file")
    assert export(network, form, path, digits) < 1e-4
    images = digits.permute(0, 3, 1, 2).float().contiguous()
    if form == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path))
        found = torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
        known = session.get_modelmeta().custom_metadata_map
    else:
        extra = {"metadata.json": ""}
        found = torch.export.load(path, extra_files=extra).module()(images).detach()
        known = json.loads(extra["metadata.json"])
    torch.testing.assert_close(found, network.logits(digits), rtol=1e-4, atol=1e-4)
    assert known["input"].startswith("RGB, 0..255, (N, 3, height, width) float32; whitened")
    assert "mean" not in known


def test_a_file_of_weights_holds_the_whitening(typed, digits):
    safetensors = pytest.importorskip("safetensors")
    network, path = trained(typed, "zca"), Path("network.safetensors")
    export(network, "safetensors", path, digits)
    with safetensors.safe_open(path, "pt") as file:
        mean, matrix = (file.get_tensor(f"normalisation.{name}").numpy() for name in ("mean", "matrix"))
        known = file.metadata()
    rows = digits.numpy().reshape(20, -1).astype(float)  # as `input` in the metadata says
    rows -= rows.mean(1, keepdims=True)
    rows *= 55 / np.sqrt((rows**2).sum(1, keepdims=True))
    white = ((rows - mean.ravel()) @ matrix).reshape(digits.shape).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(network.inputs(digits).numpy(), white, atol=1e-3)
    assert "divided by its norm, times 55, minus normalisation.mean" in known["input"]


def test_a_mean_image_is_in_the_metadata(typed, digits):
    safetensors = pytest.importorskip("safetensors")
    network, path = trained(typed, "pixel_mean"), Path("network.safetensors")
    export(network, "safetensors", path, digits)
    with safetensors.safe_open(path, "pt") as file:
        known = {name: json.loads(file.metadata()[name]) for name in ("mean", "std")}
    numbers = (digits.numpy() / 255 - known["mean"]) / known["std"]
    np.testing.assert_allclose(network.inputs(digits).numpy(), numbers.transpose(0, 3, 1, 2), atol=2e-6)
