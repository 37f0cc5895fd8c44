"""The comparisons that a sweep is to decide: its settings, the baseline among them, and their runs."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from densenet_cli.config.overrides import key
from densenet_cli.config.variants import Variants
from densenet_cli.decisions.rounds import Design
from densenet_cli.decisions.rule import Rule
from densenet_cli.options import OptionError, UserError
from densenet_cli.record.identity import setting, without_effect
from densenet_cli.record.sweep_file import UntilDecided
from densenet_cli.record.trained_on import PLACES
from densenet_cli.sweep import grid
from densenet_cli.sweep.decide import options
from densenet_cli.sweep.folders import job_names
from densenet_cli.sweep.jobs import Job, Sweep, compose_job


@dataclass(frozen=True)
class Comparisons:
    """Every run that may be needed, and how it is found out which are.

    Attributes:
        design: which settings are compared, and when.
        identities: the identity of each setting by its name, as in `design`.
        jobs: by setting and seed, with all seeds up to the last look.
    """

    design: Design
    identities: dict[str, str]
    jobs: dict[tuple[str, int], Job]

    def as_recorded(self) -> UntilDecided:
        """What sweep.yaml says of them."""
        design = self.design
        looks, rule = list(design.looks), design.rule
        return UntilDecided(
            design.baseline, self.identities, design.first_seed, looks, rule.level, rule.margin
        )


def comparisons(sweep: Sweep) -> Comparisons:
    """The comparisons of a sweep with seeds=until_decided; within `composing` only.

    Args:
        sweep: with the jobs of all seeds that may be needed.

    Raises:
        UserError: if there is nothing to compare, or if sweep.baseline does not name one setting.
    """
    settings: dict[str, dict[int, Job]] = {}
    for job in sweep.jobs:
        alike = settings.setdefault(setting(job.config), {})
        if alike.setdefault(job.config["seed"], job) is not job:
            why = f"makes runs that differ in the seeds only, which seeds={options.WORD} chooses"
            raise OptionError("data.seed", job.config["data"]["seed"], f"{why}; leave it out")
    if len({frozenset(jobs) for jobs in settings.values()}) > 1:
        why = "sweep.most_seeds: the files of the experiments have different numbers"
        raise UserError(f"{why}; type one for all, as sweep.most_seeds=10")
    firsts = {digest: next(iter(jobs.values())) for digest, jobs in settings.items()}
    if len(firsts) < 2:
        why = f"seeds={options.WORD} compares settings, and the sweep has only one"
        raise UserError(f"{why}; type several, as model=resnet_20,densenet_bc_100")
    without_seed = [[one for one in job.overrides if key(one) != "seed"] for job in firsts.values()]
    identities = dict(zip(job_names(without_seed), firsts, strict=True))
    named = {name: firsts[digest] for name, digest in identities.items()}
    baseline = _baseline(sweep, named)
    _check_images(named, baseline)
    first_seed = min(settings[identities[baseline]])
    about = sweep.cfg.sweep
    looks = tuple(range(about.first_seeds, about.most_seeds + 1))
    rule = Rule(margin=about.margin, comparisons=len(named) - 1)
    return Comparisons(
        Design(baseline, tuple(named), first_seed, looks, rule),
        identities,
        {(name, seed): job for name, one in identities.items() for seed, job in settings[one].items()},
    )


def _baseline(sweep: Sweep, settings: Mapping[str, Job]) -> str:
    """The setting that the overrides in sweep.baseline leave as it is."""
    typed = options.overrides(sweep.cfg.sweep.baseline)
    own, variants = grid.search_path(sweep.overrides), Variants()
    found = [name for name, job in settings.items() if _is_left(job, typed, own, variants)]
    varying = _varying([job.overrides for job in settings.values()])
    if len(found) > 1:  # recipe=a means recipe=a alone, not recipe=a recipe.mixup=0
        keys = {key(one) for one in typed}
        found = [one for one in found if _own(settings[one], varying) <= keys] or found
    if len(found) == 1:
        return found[0]
    if found:
        rule = f"{len(found)} of the settings have it ({', '.join(found[:3])}); name one"
    else:
        rule = "no setting of the sweep has it"
    first = settings[found[0]] if found else next(iter(settings.values()))
    example = " ".join(one for one in first.overrides if key(one) in varying)
    raise OptionError("sweep.baseline", sweep.cfg.sweep.baseline, rule, shlex.quote(example))


def _is_left(job: Job, typed: list[str], search_path: list[str], variants: Variants) -> bool:
    """Whether overrides change nothing about the setting of a job."""
    together = {key(one): one for one in [*job.overrides, *typed]}
    try:
        config = compose_job(list(together.values()), search_path, variants)
    except UserError:  # an option that this network does not have, for example
        return False
    return setting(config) == setting(job.config)


def _own(job: Job, varying: set[str]) -> set[str]:
    """The keys, of those in which jobs differ, that are typed for a job."""
    return {key(one) for one in job.overrides} & varying


def _varying(jobs: list[list[str]]) -> set[str]:
    """The keys in which jobs differ, but the seed."""
    options_of = [{key(one): one for one in job} for job in jobs]
    names = {name for job in options_of for name in job} - {"seed"}
    return {name for name in names if len({job.get(name) for job in options_of}) > 1}


def _check_images(settings: Mapping[str, Job], baseline: str) -> None:
    """Raise UserError if a setting is tested on other images than the baseline."""
    before = _images(settings[baseline].config)
    for name, job in settings.items():
        if (now := _images(job.config)) != before:
            both = " and ".join(", ".join(map(str, one.values())) for one in (now, before))
            rule = "is tested on other images than the baseline, so their errors cannot be compared"
            raise UserError(f"{name} {rule}: {both}")


def _images(config: dict[str, Any]) -> dict[str, Any]:
    """The options that decide on which images a network is tested."""
    fixed = without_effect(config)
    names = [name for name in ("_target_", *PLACES) if f"data.{name}" not in fixed]
    return {name: config["data"][name] for name in names if name in config["data"]}
