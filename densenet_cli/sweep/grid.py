"""What a sweep was typed as -> the words of each of its jobs."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterable

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from densenet_cli.config.compose import key
from densenet_cli.options import UserError, whole_number

OF_THE_SWEEP = ("sweep", "seeds", "plan", "resume", "hydra")  # sections and keys of no single job


def job_words(typed: list[str]) -> list[str]:
    """The typed words that belong to the jobs; the others are about the sweep as a whole."""
    return [word for word in typed if _section(word) not in OF_THE_SWEEP]


def sweep_words(typed: list[str]) -> list[str]:
    """The typed words that are about the sweep; an experiment's file may say how it is swept.

    Of several experiments each is looked at by itself; a list of them makes one.
    """
    about = [word for word in typed if _section(word) in OF_THE_SWEEP and key(word) != "resume"]
    experiments = [word for word in typed if key(word) == "experiment" and not swept([word])]
    return about + experiments


def search_path(typed: list[str]) -> list[str]:
    """The words that say where choices of the user's own lie."""
    return [word for word in typed if key(word) == "hydra.searchpath"]


def is_search(typed: list[str]) -> bool:
    """Whether the words are those of a search."""
    return "hydra/sweeper=optuna" in typed


def expand(lines: Iterable[str], typed: list[str], seeds: int | None) -> list[list[str]]:
    """The words of every job, in order, each job once; within `composing` only.

    Args:
        lines: grids, each as one would type it.
        typed: words for all lines; they replace a line's words of the same key.
        seeds: how often to repeat each job, with seeds that follow on the one it has.

    Raises:
        UserError: if seeds and a grid of seeds are both given.
        HydraException: if a word can't be read.
    """
    jobs = []
    own = parse(typed)
    replaced = {override.get_key_element() for override in own}
    if seeds is not None:
        whole_number("seeds", seeds, example=5)
        replaced.add("seed")
        if "seed" in swept(typed):
            raise UserError(f"seed= has several values, and seeds={seeds}: type one of them")
    for line in lines:
        kept = [one for one in parse(shlex.split(line)) if one.get_key_element() not in replaced]
        jobs += [list(words) for words in itertools.product(*map(choices, [*kept, *own]))]
    if seeds is not None:
        jobs = [words for job in jobs for words in _with_seeds(job, seeds)]
    return [list(words) for words in dict.fromkeys(map(tuple, jobs))]


def swept(words: list[str]) -> list[str]:
    """The keys for which several values are typed."""
    return [one.get_key_element() for one in parse(words) if one.is_sweep_override()]


def parse(words: list[str]) -> list[Override]:
    """The words by Hydra's grammar, the last of each key; within `composing` only."""
    loader = GlobalHydra.instance().config_loader()
    overrides = OverridesParser.create(config_loader=loader).parse_overrides(words)
    return list({one.get_key_element(): one for one in overrides}.values())


def choices(override: Override) -> list[str]:
    """The words, each for one job, that a word of a grid stands for."""
    if not override.is_sweep_override():
        assert override.input_line is not None
        return [override.input_line]
    if not override.is_discrete_sweep():
        raise UserError(
            f"{override.input_line}: an interval has no end of values; type some, as "
            f"{override.get_key_element()}=0.05,0.1,0.2, or search it by hydra/sweeper=optuna"
        )
    name = override.get_key_element()
    values = override.sweep_string_iterator()
    return [f"{name}={text.lower() if text in ('True', 'False') else text}" for text in values]


def _with_seeds(job: list[str], seeds: int) -> Iterable[list[str]]:
    given = [word for word in job if key(word) == "seed"]
    others = [word for word in job if key(word) != "seed"]
    first = given[-1].partition("=")[2] if given else "0"
    if not first.isdigit():
        raise UserError(f"seed={first}: must be a whole number where seeds={seeds} counts on from it")
    return ([*others, f"seed={int(first) + number}"] for number in range(seeds))


def _section(word: str) -> str:
    return key(word).partition(".")[0].partition("/")[0]
