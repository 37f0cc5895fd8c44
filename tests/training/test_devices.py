import pytest
import torch

from densenet_cli.training import devices


@pytest.mark.parametrize(("has_amx", "precision"), [(True, "bf16-mixed"), (False, "32-true")])
def test_a_cpu_computes_in_bf16_only_where_it_gains(has_amx, precision, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_amx, raising=False)
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
