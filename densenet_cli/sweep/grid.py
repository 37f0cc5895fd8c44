"""The overrides typed for a sweep -> the overrides of each of its jobs."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterable

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from densenet_cli.config.overrides import key
from densenet_cli.options import UserError, whole_number
from densenet_cli.units import typed_number

OF_THE_SWEEP = ("sweep", "seeds", "plan", "resume", "hydra")  # sections and keys that no job has


def job_overrides(typed: list[str]) -> list[str]:
    """The overrides that belong to the jobs; the others describe the sweep as a whole."""
    return [override for override in typed if _section(override) not in OF_THE_SWEEP]


def sweep_overrides(typed: list[str]) -> list[str]:
    """The overrides that describe the sweep as a whole.

    An experiment is among them, because its file may describe a grid or a search; several experiments
    (experiment=a,b) are not, because each of them is then a sweep of its own.
    """
    about = [one for one in typed if _section(one) in OF_THE_SWEEP and key(one) != "resume"]
    experiments = [one for one in typed if key(one) == "experiment" and not swept_keys([one])]
    return about + experiments


def search_path(typed: list[str]) -> list[str]:
    """The overrides that name folders of the user's own choices."""
    return [override for override in typed if key(override) == "hydra.searchpath"]


def expand(lines: Iterable[str], typed: list[str], seeds: int | None) -> list[list[str]]:
    """The overrides of every job, in order, without repetitions; within `composing` only.

    Args:
        lines: grids, each as one would type it.
        typed: overrides for all lines; they replace those of a line with the same key.
        seeds: how many runs to make of each job: with its own seed (0 by default), the next one, ...

    Raises:
        UserError: if both seeds and a grid of seeds are given.
        HydraException: if an override cannot be parsed.
    """
    jobs = []
    shared = parse(typed)
    replaced = {override.get_key_element() for override in shared}
    if seeds is not None:
        whole_number("seeds", seeds, example=5)
        replaced.add("seed")
        if "seed" in swept_keys(typed):
            raise UserError(f"seed= has several values, and seeds={seeds}: type only one of the two")
    for line in lines:
        own = [one for one in parse(shlex.split(line)) if one.get_key_element() not in replaced]
        jobs += [list(job) for job in itertools.product(*map(values, [*own, *shared]))]
    if seeds is not None:
        jobs = [with_seed for job in jobs for with_seed in _with_seeds(job, seeds)]
    return [list(job) for job in dict.fromkeys(map(tuple, jobs))]


def swept_keys(overrides: list[str]) -> list[str]:
    """The keys with several values."""
    return [one.get_key_element() for one in parse(overrides) if one.is_sweep_override()]


def parse(overrides: list[str]) -> list[Override]:
    """The overrides parsed by Hydra's grammar, the last one of each key; within `composing` only."""
    loader = GlobalHydra.instance().config_loader()
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(overrides)
    return list({one.get_key_element(): one for one in parsed}.values())


def values(override: Override) -> list[str]:
    """One override for each value: k=4 and k=6 for k=4,6."""
    if not override.is_sweep_override():
        assert override.input_line is not None
        return [override.input_line]
    if not override.is_discrete_sweep():
        raise UserError(
            f"{override.input_line}: a grid needs single values instead of an interval, for example "
            f"{override.get_key_element()}=0.05,0.1,0.2; or search the interval: hydra/sweeper=optuna"
        )
    name = override.get_key_element()
    texts = map(_as_typed, override.sweep_string_iterator())
    return [f"{name}={text.lower() if text in ('True', 'False') else text}" for text in texts]


def _as_typed(text: str) -> str:
    """A large number as one types it, since it becomes part of a folder's name: 1e15."""
    is_large = re.fullmatch(r"\d{7,}\.0|\d+(\.\d+)?e\+\d+", text)
    return typed_number(float(text)) if is_large else text


def _with_seeds(job: list[str], seeds: int) -> Iterable[list[str]]:
    given = [override for override in job if key(override) == "seed"]
    others = [override for override in job if key(override) != "seed"]
    first = given[-1].partition("=")[2] if given else "0"
    if not first.isdigit():
        raise UserError(f"seed={first}: must be a whole number, since seeds={seeds} counts up from it")
    return ([*others, f"seed={int(first) + number}"] for number in range(seeds))


def _section(override: str) -> str:
    return key(override).partition(".")[0].partition("/")[0]
