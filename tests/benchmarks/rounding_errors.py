"""Rounding errors of the fused DenseNet beside those of the modules, against float64."""

from __future__ import annotations

from dataclasses import replace

import torch
from checklist_part import Result, Setting
from contestants import CONTESTANTS, Contestant
from networks import NETWORKS, TINY, Network, cifar_densenet
from torch import Tensor
from training_step import Trainee

SLACK = 4.0  # largest ratio of rounding errors, fused network to modules
ROUNDING = 1e-5  # relative error that is never too large: sums in another order
CHECKED = (
    cifar_densenet("small-bc", 8, growth_rate=12, depth=40),
    cifar_densenet("small", 8, growth_rate=12, depth=22, bottleneck=False, compression=1.0),
    replace(NETWORKS["densenet-121"], batch=4, evaluation_batch=4, image_size=70),  # odd sizes
)
PAIRS = {"float32": ("fused-float32", "reference-plain"), "auto": ("fused", "reference")}


def measure(setting: Setting) -> bool:
    """Compare all, in float32 and in the device's best number format; whether all are right."""
    found: Result = {}
    for network in (TINY,) if setting.small else CHECKED:
        found[network.title] = compared(network, setting.device)
        setting.keep("rounding", found)
    return all(map(_is_right, _by_name(found).values()))


def lines(found: Result) -> list[str]:
    """The verdict."""
    if not found:
        return []
    wrong = [name for name, one in _by_name(found).items() if not _is_right(one)]
    if wrong:
        return [f"WRONG against float64: {', '.join(wrong)}"]
    most = max((one["fused"] / _allowed(one) for one in _by_name(found).values()), default=0.0)
    return [f"{len(found)} networks are right; errors are at most {100 * most:.0f} % of those allowed"]


def _by_name(found: Result) -> dict[str, dict[str, float]]:
    return {
        f"{title}, {kind}, {name}": one
        for title, formats in found.items()
        for name, kinds in formats.items()
        for kind, one in kinds.items()
    }


def _allowed(one: dict[str, float]) -> float:
    return max(ROUNDING, SLACK * one["modules"])


def _is_right(one: dict[str, float]) -> bool:
    return one["fused"] <= _allowed(one)  # and not NaN


def compared(network: Network, device: str) -> Result:
    """By number format and kind of tensor: the largest relative errors of both implementations."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    exact = outcomes(CONTESTANTS["reference-plain"], network, device, torch.float64)
    found: Result = {}
    for name, pair in PAIRS.items():
        fused, modules = (
            errors(outcomes(CONTESTANTS[one], network, device, torch.float32), exact) for one in pair
        )
        found[name] = {kind: {"fused": fused[kind], "modules": modules[kind]} for kind in fused}
    return found


def outcomes(
    contestant: Contestant, network: Network, device: str, dtype: torch.dtype
) -> dict[str, dict[str, Tensor]]:
    """Results of a training pass and an evaluation after it, by kind and name, as float64."""
    trainee = Trainee(contestant, network, device)
    trainee.module.to(dtype)
    trainee.images = trainee.images.to(dtype)
    trainee.evaluation_images = trainee.evaluation_images.to(dtype)
    loss = trainee.forward_and_backward()
    module = trainee.module
    kinds = {
        "loss": {"loss": loss},
        "gradients": {name: parameter.grad for name, parameter in module.named_parameters()},
        "running statistics": dict(module.named_buffers()),
        "logits in evaluation": {"logits": trainee.evaluate()},
    }
    return {
        kind: {name: tensor.double() for name, tensor in tensors.items()}
        for kind, tensors in kinds.items()
    }


def errors(
    found: dict[str, dict[str, Tensor]], exact: dict[str, dict[str, Tensor]]
) -> dict[str, float]:
    """By kind, the largest relative error of any tensor, in norms.

    The norm of a tensor counts as at least a hundredth of the largest norm of its kind: many gradients
    of shifts are sums that cancel out almost completely.
    """
    largest = {}
    for kind, tensors in exact.items():
        least = max(true.norm() for true in tensors.values()) / 100
        off = [
            (found[kind][name] - true).norm() / true.norm().clamp(min=least)
            for name, true in tensors.items()
        ]
        largest[kind] = torch.stack(off).max().item()  # NaN if one is
    return largest
