"""The options of seeds=until_decided, checked."""

from __future__ import annotations

import re

from omegaconf import DictConfig

from densenet_cli.config.known_keys import UNTIL_DECIDED
from densenet_cli.options import OptionError, UserError, number, whole_number
from densenet_cli.sweep import grid

WORD = "until_decided"
MOST = 1000  # seeds


def is_asked(cfg: DictConfig) -> bool:
    """Whether a sweep is to go on until its comparisons are decided."""
    return bool(cfg.seeds == WORD)


def check(cfg: DictConfig, shared: list[str], is_search: bool) -> None:
    """Raise UserError if one of these options is wrong.

    Args:
        cfg: the configuration of the sweep as a whole.
        shared: the overrides typed for all of its jobs.
        is_search: whether the sweep is a search.
    """
    options = cfg.sweep
    if not is_asked(cfg):
        if isinstance(cfg.seeds, str):
            raise OptionError("seeds", cfg.seeds, f"must be a whole number, or {WORD}", 5)
        for name, unset in UNTIL_DECIDED.items():
            if (value := options[name]) != unset:
                rule = f"only seeds={WORD} reads it, so type that, too"
                raise OptionError(f"sweep.{name}", value, rule)
        return
    if is_search:
        raise OptionError("seeds", WORD, "is for grids, not for a search; leave it out")
    if "seed" in grid.swept_keys(shared):
        rule = f"has several values, and seeds={WORD} finds out how many are needed"
        raise UserError(f"seed=: {rule}; type the first one only, as seed=0")
    if not overrides(options.baseline):
        rule = f"seeds={WORD} compares all other settings with one, which it must name"
        raise OptionError("sweep.baseline", options.baseline, rule, "model=resnet_20")
    first = whole_number("sweep.first_seeds", options.first_seeds, example=3, at_least=2)
    whole_number("sweep.most_seeds", options.most_seeds, example=10)
    if not first <= options.most_seeds <= MOST:
        rule = f"must be from {first}, the seeds at the first look (sweep.first_seeds), to {MOST}"
        raise OptionError("sweep.most_seeds", options.most_seeds, rule, max(10, first))
    if options.margin is not None:
        number("sweep.margin", options.margin, example=0.3, above=0, at_most=100)


def overrides(baseline: object) -> list[str]:
    """The overrides in sweep.baseline: separated by spaces or commas, in brackets or not."""
    text = str(baseline or "").strip()
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    return [one for one in re.split(r"[,\s]+(?=[+~]*[\w./@-]+=)", text.strip(" ,")) if one]
