"""The loss of networks that may have auxiliary classifiers (arXiv:1409.4842, section 5).

In evaluation mode every network maps images to logits (N, num_classes). In training mode one with A
auxiliary classifiers returns (1 + A, N, num_classes): its logits, then theirs. That is one tensor, as
every network returns, so that the pass can be recorded as a CUDA graph like any other.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

LossOfBatch = Callable[[Tensor, Tensor], Tensor]
"""Logits (N, num_classes) and labels -> the mean loss."""

WEIGHT = 0.3  # of the loss of each auxiliary classifier


def logits(outputs: Tensor) -> Tensor:
    """The network's own logits (N, num_classes) among its outputs in training mode."""
    return outputs if outputs.ndim == 2 else outputs[0]


def losses(
    outputs: Tensor, labels: Tensor, loss: LossOfBatch = F.cross_entropy
) -> tuple[Tensor, Tensor]:
    """The mean loss of the network's own logits, and the loss to minimise.

    Args:
        outputs: of the network in training mode, in float32.
        labels: of the images, as `loss` takes them.
        loss: logits (N, num_classes) and labels -> a scalar.

    Returns:
        The same tensor twice if there are no auxiliary classifiers; else the second is the first plus
        WEIGHT times the loss of each of them.
    """
    own = loss(logits(outputs), labels)
    if outputs.ndim == 2:
        return own, own
    return own, own + WEIGHT * sum(loss(one, labels) for one in outputs[1:])
