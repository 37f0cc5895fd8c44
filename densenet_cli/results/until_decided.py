"""Sweeps with seeds=until_decided: their comparisons, as the sweep itself decides them."""

from __future__ import annotations

from collections.abc import Mapping

from densenet_cli.decisions.rounds import Design, Errors, Standing, standings
from densenet_cli.decisions.rule import Rule
from densenet_cli.record.sweep_file import UntilDecided


def standing(fixed: UntilDecided, errors: Mapping[str, Errors]) -> dict[str, Standing]:
    """How far each comparison of a sweep has come.

    Args:
        fixed: from the sweep's sweep.yaml.
        errors: for the identity of each setting the reported test errors in percent of its finished
            runs by seed.

    Returns:
        One for each setting but the baseline, by the names in `fixed`.
    """
    rule = Rule(fixed.level, fixed.margin, comparisons=len(fixed.settings) - 1)
    design = Design(fixed.baseline, tuple(fixed.settings), fixed.first_seed, tuple(fixed.looks), rule)
    return standings(design, {name: errors.get(digest, {}) for name, digest in fixed.settings.items()})
