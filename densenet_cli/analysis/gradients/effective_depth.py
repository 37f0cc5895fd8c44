"""How many units the gradient passes through, on average, on its way back to the images.

The gradient at the input is a sum over the paths through a network. At each unit (a residual branch, a
layer of a dense block) a path either goes through the unit or bypasses it. If every unit multiplies the
gradient by t, paths through n units are multiplied by t^n, so

    g(t) = Σ_n t^n g_n,    d ln‖g‖ / d ln t at t = 1  =  Σ_n n <g_n, g> / <g, g>,

which is the mean number of units on a path, weighted by each path's share of the gradient. In a chain
this is the number of units; in a network whose branches output zeros it is 0. Veit et al. 2016
(arXiv:1605.06431, sec. 5.2) sample paths of each length; this method takes two backward passes and
samples nothing.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from densenet_cli.analysis.forward import (
    Batches,
    device_of,
    in_double,
    mode,
    no_images,
    same_buffers,
)
from densenet_cli.analysis.lesions.units import Unit, find_units
from densenet_cli.options import UserError
from densenet_cli.training.auxiliary import LossOfBatch, losses

STEP = 0.01  # in ln t; the error of the result is STEP² / 6 times the third derivative of ln‖g‖


def branching_units(network: nn.Module) -> list[Unit]:
    """The residual blocks or dense layers of a network; an empty list if it has none."""
    try:
        return [unit for unit in find_units(network) if unit.output is not None]
    except UserError:
        return []


def effective_depth(
    network: nn.Module,
    units: Sequence[Unit],
    batches: Batches,
    loss: LossOfBatch = F.cross_entropy,
) -> float:
    """The mean number of units on the gradient's paths: 0..units, unless paths cancel out.

    Batch norm uses batch statistics and dropout is active, as in training. The network is not changed.

    Args:
        network: images -> logits.
        units: the units to count, from `branching_units`.
        batches: one or a few; the result is their mean.
        loss: logits and labels -> the mean loss.

    Raises:
        ValueError: there are no images.
    """
    with mode(network, training=True), same_buffers(network):
        found = [_of_batch(network, units, *batch, loss) for batch in batches]
    if not found:
        raise no_images()
    return statistics.fmean(found)


def _of_batch(
    network: nn.Module, units: Sequence[Unit], images: Tensor, labels: Tensor, loss: LossOfBatch
) -> float:
    device, factor = device_of(network), torch.ones(())
    inputs = images.detach().to(device).requires_grad_()
    with ExitStack() as hooks:
        for unit in units:
            assert unit.output is not None
            hooks.enter_context(unit.output.register_forward_hook(partial(_scale_back, factor)))
        _, found = losses(network(inputs).float(), labels.to(device), loss)
    logarithms = []
    for sign in (-1, 1):
        factor.fill_(math.exp(sign * STEP))
        (gradient,) = torch.autograd.grad(found, inputs, retain_graph=sign < 0)
        logarithms.append(math.log(in_double(gradient).norm()))
    return (logarithms[1] - logarithms[0]) / (2 * STEP)


def _scale_back(factor: Tensor, module: nn.Module, args: Any, output: Tensor) -> None:
    """Multiply the gradient of an output by the factor's value at the time of the backward pass."""
    output.register_hook(lambda gradient: gradient * factor.to(gradient))
