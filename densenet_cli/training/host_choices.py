"""Networks that choose on the host, at each step, what they compute, as with stochastic depth.

Such a network draws from a random.Random that is an attribute of one of its modules. Training seeds it
at each step, equally in all processes, so that all choose the same.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from torch import nn


def generators(network: nn.Module) -> list[random.Random]:
    """The generators that a network chooses by, each once; most networks have none."""
    found = (
        value
        for module in network.modules()
        for value in vars(module).values()
        if isinstance(value, random.Random)
    )
    return list({id(one): one for one in found}.values())


def seed(generators: Sequence[random.Random], numbers: Sequence[int]) -> None:
    """Seed generators by numbers that all processes share, each generator in another way."""
    for index, generator in enumerate(generators):
        (state,) = np.random.SeedSequence([*numbers, index]).generate_state(1)
        generator.seed(int(state))
