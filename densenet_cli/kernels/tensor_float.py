"""TF32, in which a GPU multiplies numbers of float32 fast, with ten bits of mantissa.

One switch holds for all convolutions: the one that torch has for those of its modules.
"""

from __future__ import annotations

import torch


def is_allowed() -> bool:
    """Whether convolutions of float32 may be computed in TF32; torch's default is that they may."""
    by_operation = getattr(
        torch.backends.cudnn, "conv", None
    )  # since torch 2.9; older names still set it
    if by_operation is None:
        return torch.backends.cudnn.allow_tf32
    return by_operation.fp32_precision == "tf32"


def is_used(device: str, precision: str) -> bool:
    """Whether convolutions of a run are computed in TF32.

    Args:
        device: cpu, cuda or mps.
        precision: as in trainer.precision, such as 32-true.
    """
    return (
        device == "cuda"
        and precision == "32-true"
        and is_allowed()
        and torch.cuda.get_device_capability() >= (8, 0)
    )
