from functools import partial

import pytest
import torch

from densenet_cli.training import devices


@pytest.mark.parametrize(
    ("has", "precision"),
    [((), "32-true"), (("avx512_bf16",), "bf16-mixed"), (("amx_tile", "avx512_bf16"), "bf16-mixed")],
)
def test_a_cpu_computes_in_bf16_only_where_it_gains(has, precision, monkeypatch):
    for unit in ("amx_tile", "avx512_bf16"):
        answer = partial(bool, unit in has)
        monkeypatch.setattr(torch.cpu, f"_is_{unit}_supported", answer, raising=False)
    assert devices.precision("auto", "cpu") == precision


@pytest.mark.parametrize(
    ("capability", "precision"), [((9, 0), "bf16-mixed"), ((8, 0), "bf16-mixed"), ((7, 5), "32-true")]
)
def test_a_gpu_computes_in_bf16_from_ampere_on(capability, precision, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert devices.precision("auto", "cuda") == precision


def test_what_is_asked_for_is_taken():
    assert devices.precision("32-true", "cpu") == "32-true"
    assert devices.accelerator("cpu") == "cpu"
