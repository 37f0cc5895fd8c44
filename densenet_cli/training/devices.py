"""The device and the number format that a run computes with, and its random numbers."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

CPU_INFO = Path("/proc/cpuinfo")  # of Linux
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")


def accelerator(requested: str) -> str:
    """The device that `requested` means: cpu, cuda, mps, or `requested` itself.

    "auto" is a GPU if there is one, else the CPU; "gpu" is cuda or mps ("cuda" if there is no GPU).
    """
    if requested not in ("auto", "gpu"):
        return requested
    for device in ("cuda", "mps"):
        if is_available(device):
            return device
    return "cpu" if requested == "auto" else "cuda"


def is_available(device: str) -> bool:
    """Whether torch can use a device here; devices other than cuda and mps are left to Lightning."""
    if device == "cuda":
        return torch.cuda.is_available()
    return device != "mps" or torch.backends.mps.is_available()


def precision(requested: str, device: str) -> str:
    """Lightning's precision: the requested one, or for "auto" the fastest that trains as well.

    "auto" is bf16-mixed (bfloat16 with float32 weights) on devices that multiply bfloat16 faster: CUDA
    from compute capability 8.0 (Ampere) on, and x86 CPUs with AMX tiles or AVX-512's bfloat16
    instructions. It is 32-true elsewhere.
    """
    if requested != "auto":
        return requested
    if device == "cuda":
        is_faster = torch.cuda.get_device_capability()[0] >= 8
    else:
        flags = _cpu_info("flags").split()
        is_faster = device == "cpu" and ("amx_tile" in flags or "avx512_bf16" in flags)
    return "bf16-mixed" if is_faster else "32-true"


def device_name(device: str) -> str:
    """The device's product name; of a CPU also how many threads are used."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    threads = torch.get_num_threads()
    name = _cpu_info("model name") or platform.processor() or platform.machine()
    return f"{name}, {threads} thread{'s' if threads > 1 else ''}"


def _cpu_info(key: str) -> str:
    """A value of /proc/cpuinfo; "" where there is no such file or value."""
    if not CPU_INFO.exists():
        return ""
    lines = (line.partition(":") for line in CPU_INFO.read_text().splitlines())
    return next((value.strip() for name, _, value in lines if name.strip() == key), "")


def seed(number: int, device: torch.device) -> None:
    """As torch.manual_seed, which takes a millisecond longer to look for devices that are absent."""
    if device.type not in ("cpu", "cuda"):
        torch.manual_seed(number)
        return
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        torch.cuda.manual_seed(number)
