"""The device and number format a run computes with."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")


def accelerator(requested: str) -> str:
    """The device that `requested` stands for: cpu, cuda, mps, or what it says itself.

    "auto" is the best there is, "gpu" the best of GPUs ("cuda" if there is none).
    """
    if requested not in ("auto", "gpu"):
        return requested
    for device in ("cuda", "mps"):
        if is_available(device):
            return device
    return "cpu" if requested == "auto" else "cuda"


def is_available(device: str) -> bool:
    """Whether torch can use a device here; those it has no word for are left to Lightning."""
    if device == "cuda":
        return torch.cuda.is_available()
    return device != "mps" or torch.backends.mps.is_available()


def precision(requested: str, device: str) -> str:
    """Lightning's precision: what was requested, or for "auto" the faster one that trains as well.

    bfloat16 with float32 weights where the device multiplies it faster: CUDA from compute capability
    8.0 (Ampere), x86 CPUs with AMX tiles or AVX-512's dot products of bfloat16. float32 elsewhere.
    """
    if requested != "auto":
        return requested
    if device == "cuda":
        gains = torch.cuda.get_device_capability()[0] >= 8
    else:
        gains = device == "cpu" and any(
            # Older versions of torch do not tell; there float32 is the safe choice.
            getattr(torch.cpu, f"_is_{unit}_supported", lambda: False)()
            for unit in ("amx_tile", "avx512_bf16")
        )
    return "bf16-mixed" if gains else "32-true"


def device_name(device: str) -> str:
    """The device's name as its maker calls it."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    threads = torch.get_num_threads()
    return f"{_cpu_name()}, {threads} thread{'s' if threads > 1 else ''}"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
