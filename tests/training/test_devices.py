import pytest
import torch

from densenet_cli.training import devices


@pytest.mark.parametrize(
    ("has", "precision"),
    [((), "32-true"), (("avx512_bf16",), "bf16-mixed"), (("amx_tile", "avx512_bf16"), "bf16-mixed")],
)
def test_a_cpu_computes_in_bf16_only_where_it_is_faster(has, precision, tmp_path, monkeypatch):
    flags = " ".join(["fpu", "avx2", *has, "sha_ni"])
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nmodel name\t: A CPU\nflags\t\t: {flags}\n")
    monkeypatch.setattr(devices, "CPU_INFO", tmp_path / "cpuinfo")
    assert devices.precision("auto", "cpu") == precision


@pytest.mark.parametrize(
    ("capability", "precision"), [((9, 0), "bf16-mixed"), ((8, 0), "bf16-mixed"), ((7, 5), "32-true")]
)
def test_a_gpu_computes_in_bf16_from_ampere_on(capability, precision, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert devices.precision("auto", "cuda") == precision


def test_a_requested_precision_and_device_are_used():
    assert devices.precision("32-true", "cpu") == "32-true"
    assert devices.accelerator("cpu") == "cpu"
