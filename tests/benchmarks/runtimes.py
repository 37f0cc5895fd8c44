"""Runtimes that evaluate a network but do not train it: onnxruntime and OpenVINO, where installed."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from contestants import CONTESTANTS, build
from networks import Network
from side_by_side import timed
from torch import Tensor

Evaluation = Callable[[], np.ndarray]
TOLERANCES = {False: 1e-3, True: 0.1}  # of the logits, in norms; bfloat16 or not


class Runtime:
    """A network with the weights that all contestants get, as an ONNX file in a runtime.

    Args:
        name: onnxruntime; openvino, in the number format that it chooses; openvino-float32.
        network: what is evaluated, with the batch of its evaluation.

    Raises:
        RuntimeError: the logits are not those of our modules.
    """

    def __init__(self, name: str, network: Network) -> None:
        module = build(CONTESTANTS["reference"], network).eval()
        size = network.evaluation_batch, 3, network.image_size, network.image_size
        images = torch.randn(size, generator=torch.Generator().manual_seed(0))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.onnx"
            torch.onnx.export(module, (images,), path, dynamo=True, verbose=False)
            start = _onnxruntime if name == "onnxruntime" else _openvino
            self._evaluate, self._bfloat16 = start(path, images, name.endswith("float32"))
            with torch.inference_mode():
                _check(torch.from_numpy(self._evaluate()), module(images), self._bfloat16)

    def is_bfloat16(self) -> bool:
        """Whether it computes with bfloat16."""
        return self._bfloat16

    def timed_evaluation(self) -> dict[str, float]:
        """Seconds of an evaluation; see `timed`."""
        return timed(self._evaluate)


def is_installed(name: str) -> bool:
    """Whether a runtime, and what writes its file, can be imported."""
    return all(importlib.util.find_spec(one) for one in (name.partition("-")[0], "onnxscript"))


def _onnxruntime(path: Path, images: Tensor, float32: bool) -> tuple[Evaluation, bool]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs = {session.get_inputs()[0].name: images.numpy()}
    return lambda: session.run(None, inputs)[0], False


def _openvino(path: Path, images: Tensor, float32: bool) -> tuple[Evaluation, bool]:
    import openvino

    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    if float32:
        config["INFERENCE_PRECISION_HINT"] = "f32"
    compiled = openvino.Core().compile_model(path, "CPU", config)
    request, inputs = compiled.create_infer_request(), [images.numpy()]
    bfloat16 = compiled.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.bf16
    return lambda: request.infer(inputs)[compiled.output(0)], bfloat16


def _check(found: Tensor, expected: Tensor, bfloat16: bool) -> None:
    error = ((found - expected).norm() / expected.norm()).item()
    if not error <= TOLERANCES[bfloat16]:
        raise RuntimeError(f"its logits differ by {error:.2g}, relative to their norm")
