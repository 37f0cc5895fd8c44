"""The device and number format a run computes with."""

from __future__ import annotations

import platform

import torch

PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed", "64-true", "bf16-true")


def accelerator(requested: str) -> str:
    """The accelerator that Lightning will take for `requested`: cpu, cuda or mps."""
    if requested in ("auto", "gpu"):
        if torch.cuda.is_available():
            return "cuda"
        if torch.backends.mps.is_available():
            return "mps"
        return "cpu"
    return requested


def precision(requested: str, device: str) -> str:
    """Lightning's precision: what was requested, or for "auto" the faster one that trains as well.

    bfloat16 with float32 weights where the device multiplies it faster: CUDA from compute capability
    8.0 (Ampere), x86 CPUs with AMX tiles. float32 elsewhere.
    """
    if requested != "auto":
        return requested
    if device == "cuda":
        gains = torch.cuda.get_device_capability()[0] >= 8
    else:
        # Older versions of torch do not tell; there float32 is the safe choice.
        has_amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        gains = device == "cpu" and has_amx()
    return "bf16-mixed" if gains else "32-true"


def device_name(device: str) -> str:
    """The device's name as its maker calls it."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"{platform.processor() or platform.machine()} ({torch.get_num_threads()} threads)"
