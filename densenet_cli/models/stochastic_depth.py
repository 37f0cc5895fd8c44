"""Residual branches that some training steps leave out (Huang et al. 2016, arXiv:1603.09382)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn


class StochasticBranch(nn.Module):
    """Base of residual blocks whose branch a training step may leave out, for the whole batch.

    The branch is then not computed, as in the authors' code (yueatsprograms/Stochastic_Depth,
    ResidualDrop.lua): its batch norms do not see the batch, and its parameters get gradients of zero,
    on which weight decay and momentum act, and for which processes that share a batch do not wait.

    Args:
        survival: probability in (0, 1] of computing the branch in a training step.
        draws: the random numbers that decide, shared by the blocks of a network; by default of this
            block's own. Processes that share a batch must seed it equally, with each step.

    Attributes:
        BRANCH: the names of the modules of the branch.
        draws: None if the branch is always computed.
    """

    BRANCH: ClassVar[Sequence[str]]

    def __init__(self, survival: float, draws: random.Random | None) -> None:
        super().__init__()
        self.survival = survival
        self.draws = None if survival == 1 else draws or own_draws()

    def is_left_out(self) -> bool:
        """Whether this pass leaves the branch out, decided anew by each call."""
        if not self.training or self.draws is None:
            return False
        # Not random() < survival: torch.compile would compute it once, and keep the result for ever.
        (left_out,) = self.draws.choices((False, True), (self.survival, 1 - self.survival))
        return left_out

    def without_branch(self, kept: Tensor) -> Tensor:
        """Maps that do not depend on the branch, whose parameters yet get gradients: zeros.

        Args:
            kept: returned as they are.
        """
        branch = map(self.get_submodule, self.BRANCH)
        return _ZeroGradients.apply(kept, *(own for module in branch for own in module.parameters()))

    def weighted(self, branch: Tensor) -> Tensor:
        """What is added to the shortcut: in training the branch, else its mean over many steps."""
        return branch if self.training or self.survival == 1 else branch * self.survival


def own_draws() -> random.Random:
    """A generator that torch.manual_seed has seeded; torch's own numbers do not change."""
    return random.Random(torch.initial_seed())


class _ZeroGradients(torch.autograd.Function):
    @staticmethod
    def forward(kept: Tensor, *parameters: Tensor) -> Tensor:
        return kept.view_as(kept)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        needed = zip(ctx.saved_tensors, ctx.needs_input_grad[1:], strict=True)
        return gradient, *(torch.zeros_like(own) if is_needed else None for own, is_needed in needed)
