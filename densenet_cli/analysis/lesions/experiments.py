"""The test error of a network after parts of it, its units, are deleted or swapped.

As in Veit et al. 2016 (arXiv:1605.06431, sec. 4), in evaluation mode and without further training.
`units` defines what a unit is, and what its deletion means.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from densenet_cli.analysis.forward import Batches, error_and_loss, in_double, logits_and_labels
from densenet_cli.analysis.lesions.units import Unit, find_units
from densenet_cli.options import OptionError, UserError, choice, whole_number

REPLACE = ("zero", "mean")
Pair = tuple[int, int]
"""Positions of two units of a network, from 0."""


@dataclass(frozen=True)
class Lesion:
    """The result of one experiment.

    Attributes:
        experiment: "intact", "delete_one", "delete_random" or "swap_random".
        number: of units deleted or swaps made; 0 for the intact network.
        draw: index of the random draw among those of the same number.
        units: the names of the units deleted; for swaps two names each, in order.
        tau: Kendall's rank correlation of the units' order with the original one: 1 unless swapped.
        error: test error in percent.
        loss: mean cross-entropy in nats.
        replaced_by: what replaced the maps of deleted units, "zero" or "mean"; "input" if their input
            was passed on instead; "" if none were deleted.
    """

    experiment: str
    number: int
    draw: int
    units: tuple[str, ...]
    tau: float
    error: float
    loss: float
    replaced_by: str = ""


@contextlib.contextmanager
def deleted(units: Iterable[Unit], means: Mapping[str, Tensor] | None = None) -> Iterator[None]:
    """Delete units within the context; weights are not changed.

    Args:
        units: units of one network.
        means: the result of `mean_outputs`: constants that replace the units' maps instead of zeros.
    """
    with ExitStack() as undo:
        for unit in units:
            unit.delete(undo, None if means is None else means[unit.name])
        yield


@contextlib.contextmanager
def swapped(units: Sequence[Unit], pairs: Iterable[Pair]) -> Iterator[None]:
    """Swap units within the context, one pair after another.

    Args:
        units: all units of a network.
        pairs: two positions of units in the same group; each pair applies to the order so far.
    """
    with ExitStack() as undo:
        for one, other in pairs:
            units[one].swap(units[other], undo)
        yield


def mean_outputs(network: nn.Module, units: Iterable[Unit], batches: Batches) -> dict[str, Tensor]:
    """The mean output (maps,) of each unit over images and positions, by the units' names.

    Raises:
        UserError: a unit is deleted by passing its input on, so there are no maps to replace.
    """
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}

    def add(name: str, module: nn.Module, args: Any, maps: Tensor) -> None:
        sums[name] = sums.get(name, 0) + in_double(maps).sum((0, 2, 3))
        counts[name] = counts.get(name, 0) + maps[:, 0].numel()

    with ExitStack() as hooks:
        for unit in units:
            if unit.output is None:
                rule = f"{unit.name} is deleted by passing its input on: there are no maps to replace"
                raise OptionError("--replace", "mean", rule, "zero")
            hooks.enter_context(unit.output.register_forward_hook(partial(add, unit.name)))
        logits_and_labels(network, batches)
    return {name: (total / counts[name]).float() for name, total in sums.items()}


def kendall_tau(order: Sequence[int]) -> float:
    """Kendall's rank correlation of a permutation of 0, 1, ..., n - 1 with 0, 1, ..., n - 1; -1..1."""
    pairs = list(itertools.combinations(order, 2))
    inversions = sum(first > second for first, second in pairs)
    return 1 - 2 * inversions / len(pairs) if pairs else 1.0


class LesionStudy:
    """Experiments on one network, each evaluated on the same images.

    Args:
        network: a network with units that `find_units` finds. It is left unchanged.
        batches: the images; each experiment iterates over them once.
        replace: what replaces a deleted unit's maps: "zero", or their "mean" over these images.
        draws: the number of random draws for each number of deletions (of different sets) and swaps.
        seed: equal seeds draw equal units.

    Attributes:
        units: the network's units, from input to output.
        replaced_by: that of the deletions; see `Lesion`.

    Raises:
        OptionError: an argument breaks its rule.
        UserError: the network has no units.
    """

    def __init__(
        self, network: nn.Module, batches: Batches, replace: str = "zero", draws: int = 5, seed: int = 0
    ) -> None:
        choice("replace", replace, REPLACE)
        self.network, self.batches = network, batches
        self.units = find_units(network)
        self.draws = whole_number("draws", draws, example=5)
        self.seed = whole_number("seed", seed, example=0, at_least=0)
        self._means = mean_outputs(network, self.units, batches) if replace == "mean" else None
        self.replaced_by = "input" if self.units[0].output is None else replace

    def intact(self) -> Lesion:
        """The unchanged network."""
        return self._evaluated("intact", [])

    def delete_each(self) -> list[Lesion]:
        """Each unit deleted alone, from input to output."""
        return [self._delete("delete_one", [unit]) for unit in self.units]

    def delete_random(self, numbers: Iterable[int]) -> list[Lesion]:
        """Delete sets of units drawn at random: for each number `draws` different sets, or all sets.

        Raises:
            OptionError: a number is below 1 or above the number of units.
        """
        numbers = [self._checked(number) for number in numbers]
        return [
            self._delete("delete_random", [self.units[place] for place in places], draw)
            for number in numbers
            for draw, places in enumerate(self._sets(number))
        ]

    def swap_random(self, numbers: Iterable[int]) -> list[Lesion]:
        """Swap random pairs one after another: for each number that many swaps, `draws` times.

        A swap exchanges two units of one group; all pairs are equally likely.

        Raises:
            OptionError: a number is below 1.
            UserError: no two units can be swapped.
        """
        pairs = self.pairs()
        if not pairs:
            raise UserError(f"{type(self.network).__name__} has no two units of equal shape to swap")
        numbers = [whole_number("swaps", number, example=1) for number in numbers]
        return [
            self._swap(self._generator(number, draw).choices(pairs, k=number), draw)
            for number in numbers
            for draw in range(self.draws)
        ]

    def pairs(self) -> list[Pair]:
        """All pairs of positions whose units can be swapped."""
        return [
            (one, other)
            for one, other in itertools.combinations(range(len(self.units)), 2)
            if self.units[one].group == self.units[other].group
        ]

    def _sets(self, number: int) -> list[tuple[int, ...]]:
        """Different random sets of that many units, as positions."""
        generator = self._generator(number, draw=0)
        drawn: dict[tuple[int, ...], None] = {}
        while len(drawn) < min(self.draws, math.comb(len(self.units), number)):
            drawn[tuple(sorted(generator.sample(range(len(self.units)), number)))] = None
        return list(drawn)

    def _generator(self, number: int, draw: int) -> random.Random:
        """A generator for each number, so that its draws do not depend on other numbers."""
        return random.Random(f"{self.seed} {number} {draw}")

    def _checked(self, number: int) -> int:
        whole_number("deletions", number, example=1)
        if number > len(self.units):
            raise OptionError("deletions", number, f"the network has {len(self.units)} units", 1)
        return number

    def _delete(self, experiment: str, units: Sequence[Unit], draw: int = 0) -> Lesion:
        names = [unit.name for unit in units]
        with deleted(units, self._means):
            lesion = self._evaluated(experiment, names, len(units), draw)
        return dataclasses.replace(lesion, replaced_by=self.replaced_by)

    def _swap(self, pairs: Sequence[Pair], draw: int) -> Lesion:
        order = list(range(len(self.units)))
        for one, other in pairs:
            order[one], order[other] = order[other], order[one]
        names = [self.units[position].name for pair in pairs for position in pair]
        with swapped(self.units, pairs):
            return self._evaluated("swap_random", names, len(pairs), draw, kendall_tau(order))

    def _evaluated(
        self, experiment: str, names: Sequence[str], number: int = 0, draw: int = 0, tau: float = 1.0
    ) -> Lesion:
        error, loss = error_and_loss(self.network, self.batches)
        return Lesion(experiment, number, draw, tuple(names), tau, error, loss)
