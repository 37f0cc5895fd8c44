"""Through how many units the gradient comes that reaches the images.

The gradient at the input is a sum over the paths through a network: at each unit (a residual branch, a
layer of a dense block) a path either goes through it or passes it by. If what flows back through every
unit is multiplied by t, paths through n units are multiplied by t^n, so

    g(t) = Σ_n t^n g_n,    d ln‖g‖ / d ln t at t = 1  =  Σ_n n <g_n, g> / <g, g>,

the mean number of units on a path, each path weighted by its part in the gradient. In a chain that is
the number of units, in a network whose branches carry nothing 0. Veit et al. 2016 (arXiv:1605.06431,
sec. 5.2) draw paths of each length at random instead; this takes two backward passes, and no chance.
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

from densenet_cli.analysis.forward import Batches, device_of, in_double, mode, same_buffers
from densenet_cli.analysis.lesions.units import Unit, find_units
from densenet_cli.options import UserError

STEP = 0.01  # in ln t; the third derivative of ln‖g‖ spoils the result by its sixth part times STEP²


def branching_units(network: nn.Module) -> list[Unit]:
    """The residual blocks or dense layers of a network; of others, which have none, an empty list."""
    try:
        return [unit for unit in find_units(network) if unit.output is not None]
    except UserError:
        return []


def effective_depth(network: nn.Module, units: Sequence[Unit], batches: Batches) -> float:
    """The mean number of units on the paths that the gradient takes, 0..units unless paths cancel out.

    As in training, batch norm normalises by the batch, and dropout drops. The network is left as it
    was.

    Args:
        network: images -> logits.
        units: some of its units, as `branching_units` gives them.
        batches: one or a few; the mean is over them.

    Raises:
        ValueError: there are no images.
    """
    with mode(network, training=True), same_buffers(network):
        found = [_of_batch(network, units, *batch) for batch in batches]
    if not found:
        raise ValueError("there are no images: batches must be a list or a loader with some")
    return statistics.fmean(found)


def _of_batch(network: nn.Module, units: Sequence[Unit], images: Tensor, labels: Tensor) -> float:
    device, factor = device_of(network), torch.ones(())
    inputs = images.detach().to(device).requires_grad_()
    with ExitStack() as hooks:
        for unit in units:
            assert unit.output is not None
            hooks.enter_context(unit.output.register_forward_hook(partial(_scale_back, factor)))
        loss = F.cross_entropy(network(inputs).float(), labels.to(device))
    logarithms = []
    for sign in (-1, 1):
        factor.fill_(math.exp(sign * STEP))
        (gradient,) = torch.autograd.grad(loss, inputs, retain_graph=sign < 0)
        logarithms.append(math.log(in_double(gradient).norm()))
    return (logarithms[1] - logarithms[0]) / (2 * STEP)


def _scale_back(factor: Tensor, module: nn.Module, args: Any, output: Tensor) -> None:
    """Have the gradient of an output multiplied by what the factor is by then."""
    output.register_hook(lambda gradient: gradient * factor.to(gradient))
