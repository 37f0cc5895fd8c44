"""Learning rates as float32 tensors on a GPU, from where a recorded step can read them.

Every step of such an optimizer uses them, so that recorded steps and others give the same bits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

DEVICES = ("cuda",)  # on which steps can be recorded


class RateTensors:
    """Replaces the learning rates of an optimizer by tensors during each of its steps.

    Between steps they are numbers, as schedules, checkpoints and messages expect. A tensor is filled
    only when its number has changed.

    Args:
        optimizer: one that computes with tensors, as SGD does in its fused form.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        device = optimizer.param_groups[0]["params"][0].device
        self._tensors = [torch.zeros((), device=device) for _ in optimizer.param_groups]
        self._numbers: list[float | None] = [None] * len(self._tensors)
        optimizer.register_step_pre_hook(self._set_tensors)
        optimizer.register_step_post_hook(self._set_numbers)

    def _set_tensors(self, optimizer: Optimizer, *_: Any) -> None:
        for index, group in enumerate(optimizer.param_groups):
            if isinstance(group["lr"], Tensor):  # a step within a step, while it is recorded
                continue
            if group["lr"] != self._numbers[index]:
                self._tensors[index].fill_(group["lr"])
                self._numbers[index] = group["lr"]
            group["lr"] = self._tensors[index]

    def _set_numbers(self, optimizer: Optimizer, *_: Any) -> None:
        for number, group in zip(self._numbers, optimizer.param_groups, strict=True):
            group["lr"] = number


def are_needed(optimizer: Optimizer) -> bool:
    """Whether the steps of an optimizer can be recorded: those of the fused SGD on a GPU with CUDA."""
    groups = optimizer.param_groups
    is_fused = type(optimizer) is SGD and all(group["fused"] for group in groups)
    return is_fused and groups[0]["params"][0].device.type in DEVICES
