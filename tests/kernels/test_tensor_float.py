"""TF32: the kernels follow torch's switch for convolutions, and a run's record says what was used."""

import importlib.util
from types import SimpleNamespace

import pytest
import torch

from densenet_cli.kernels import tensor_float


@pytest.fixture
def switch():
    """A function that sets torch's switch; what it was is set again afterwards."""
    before = torch.backends.cudnn.allow_tf32
    yield lambda value: setattr(torch.backends.cudnn, "allow_tf32", value)
    torch.backends.cudnn.allow_tf32 = before


def test_torch_allows_tf32_for_convolutions_as_it_comes():
    assert tensor_float.is_allowed()


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="torch 2.9 brought this name")
def test_the_newer_name_of_the_switch_counts_too(switch):
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    assert not tensor_float.is_allowed()
    torch.backends.cudnn.conv.fp32_precision = "tf32"
    assert tensor_float.is_allowed()


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="there is no Triton here")
def test_kernels_multiply_float32_as_the_switch_says(switch):
    from densenet_cli.kernels.triton.launch import constants

    def precision(dtype):
        source, norm = SimpleNamespace(values=torch.empty(0, dtype=dtype)), torch.nn.BatchNorm2d(1)
        step = SimpleNamespace(source=source, norm=norm, weight=torch.empty(1, 1, 1, 1))
        return constants(step)["PRECISION"]

    switch(True)
    assert [precision(kind) for kind in (torch.float32, torch.float64)] == ["tf32", "ieee"]
    torch.backends.cuda.matmul.allow_tf32 = False  # the switch for products, which convolutions ignore
    assert precision(torch.float32) == "tf32"
    switch(False)
    assert precision(torch.float32) == "ieee"


@pytest.mark.parametrize(
    ("device", "precision", "capability", "allowed", "used"),
    [
        ("cuda", "32-true", (9, 0), True, True),
        ("cuda", "32-true", (9, 0), False, False),
        ("cuda", "32-true", (7, 5), True, False),  # Turing has no TF32
        ("cuda", "bf16-mixed", (9, 0), True, False),
        ("cpu", "32-true", None, True, False),
    ],
)
def test_a_run_is_computed_in_tf32_if_it_may_and_can(
    monkeypatch, switch, device, precision, capability, allowed, used
):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    switch(allowed)
    assert tensor_float.is_used(device, precision) is used
