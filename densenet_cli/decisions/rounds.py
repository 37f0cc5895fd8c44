"""seeds=until_decided: which comparisons are settled, and how many seeds each setting needs.

Each setting is compared with one baseline, by the test of `sequential`. A comparison is looked at when
both settings have finished the runs that its next look needs, and at no other time. So the answer
depends only on the errors of the finished runs: not on the order in which they finished, nor on how
often, or by how many processes, the sweep was begun.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from densenet_cli import units
from densenet_cli.decisions.rule import UNDECIDED, Decision, Rule
from densenet_cli.decisions.sequential import decide
from densenet_cli.plain_text import counted

Errors = Mapping[int, float]  # error in percent by seed


@dataclass(frozen=True)
class Design:
    """What is fixed before the first run.

    Attributes:
        baseline: the setting with which the others are compared.
        settings: all of them, the baseline among them.
        first_seed: the seeds count up from it.
        looks: the numbers of seeds at which a comparison is looked at, ascending.
        rule: how sure a decision must be.
    """

    baseline: str
    settings: tuple[str, ...]
    first_seed: int
    looks: tuple[int, ...]
    rule: Rule

    def seeds(self, number: int) -> range:
        """The first so many seeds."""
        return range(self.first_seed, self.first_seed + number)

    @property
    def others(self) -> list[str]:
        """The settings that are compared with the baseline."""
        return [setting for setting in self.settings if setting != self.baseline]


@dataclass(frozen=True)
class Standing:
    """How far the comparison of one setting with the baseline has come.

    Attributes:
        decision: that of the newest look; None before the first one.
        seeds: as many as the newest look used if the comparison has ended, else as the next one needs.
        ended: whether no more runs are needed: it is decided, or has been looked at for the last time.
    """

    decision: Decision | None
    seeds: int
    ended: bool

    def __str__(self) -> str:
        """The newest decision in a line: "better after 4 seeds: −0.52 (−0.90 to −0.14)"."""
        if self.decision is None:
            return f"open; first look at {counted(self.seeds, 'seed')}"
        found = f"{self.decision.word} after {counted(self.decision.seeds, 'seed')}"
        if self.decision.difference is not None:
            found += f": {units.difference(self.decision.difference)}"
        if self.decision.low is not None and self.decision.high is not None:
            found += f" ({units.interval(self.decision.low, self.decision.high)})"
        return found if self.ended else f"{found}; next look at {counted(self.seeds, 'seed')}"


def standings(design: Design, errors: Mapping[str, Errors]) -> dict[str, Standing]:
    """How far each comparison has come.

    Args:
        design: what was fixed before.
        errors: for each setting the errors of its finished runs.
    """
    baseline = errors.get(design.baseline, {})
    return {other: _standing(design, errors.get(other, {}), baseline) for other in design.others}


def _standing(design: Design, ours: Errors, baseline: Errors) -> Standing:
    finished = itertools.takewhile(
        lambda seed: seed in ours and seed in baseline, design.seeds(design.looks[-1])
    )
    number = len(list(finished))
    reached = max((look for look in design.looks if look <= number), default=None)
    if reached is None:
        return Standing(None, design.looks[0], ended=False)
    at_look = (tuple((seed, one[seed]) for seed in design.seeds(reached)) for one in (ours, baseline))
    decision = _decided(*at_look, rule=design.rule, looks=design.looks)
    if decision.word != UNDECIDED or reached == design.looks[-1]:
        return Standing(decision, decision.seeds, ended=True)
    return Standing(decision, min(look for look in design.looks if look > reached), ended=False)


@functools.lru_cache(maxsize=10_000)  # all comparisons are looked at again whenever a run has finished
def _decided(
    ours: tuple[tuple[int, float], ...],
    baseline: tuple[tuple[int, float], ...],
    rule: Rule,
    looks: tuple[int, ...],
) -> Decision:
    return decide(dict(ours), dict(baseline), rule, looks)


def needed(design: Design, standing: Mapping[str, Standing]) -> dict[str, int]:
    """How many seeds each setting needs up to the next look; the baseline as many as any other."""
    seeds = {other: one.seeds for other, one in standing.items()}
    return {design.baseline: max(seeds.values()), **seeds}


def most(design: Design, standing: Mapping[str, Standing]) -> dict[str, int]:
    """How many seeds each setting needs at most, if nothing more is decided before the last look."""
    last = design.looks[-1]
    seeds = {other: one.seeds if one.ended else last for other, one in standing.items()}
    return {design.baseline: max(seeds.values()), **seeds}


def in_order(design: Design, seeds: Mapping[str, int]) -> Iterable[tuple[str, int]]:
    """The runs, as setting and seed: all settings with the first seed, then with the next, ...

    So the comparisons that need most runs to their next look have the least left to do at its end, and
    several workers seldom wait for one another.
    """
    for seed in design.seeds(max(seeds.values())):
        for setting in design.settings:
            if seed < design.first_seed + seeds[setting]:
                yield setting, seed
