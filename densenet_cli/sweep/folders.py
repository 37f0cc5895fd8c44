"""The names of a sweep and its jobs, and which folder of the sweep contains which run."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from densenet_cli.config.overrides import key
from densenet_cli.options import UserError
from densenet_cli.process.streams import say
from densenet_cli.record.identity import WITHOUT_EFFECT, identity
from densenet_cli.record.run_record import RunRecord
from densenet_cli.record.trained_on import may_change
from densenet_cli.run.summary import relative
from densenet_cli.sweep.image_digests import ImageDigests

LONGEST_NAME = 120  # characters of a folder's name; file systems allow 255 bytes
GROUPS = ("model", "data", "recipe")


def job_names(jobs: list[list[str]]) -> list[str]:
    """A name for each job: the options in which the jobs differ, such as growth_rate=24,seed=1."""
    options = [{key(one): one.partition("=")[2] for one in job} for job in jobs]
    keys = sorted(
        dict.fromkeys(name for job in options for name in job), key=lambda name: name == "seed"
    )
    varying = [name for name in keys if len({job.get(name) for job in options}) > 1] or keys
    names = [job_name({name: job.get(name) for name in varying}) for job in options]
    times = Counter(names)
    return [
        name if times[name] == 1 else f"{name}~{_digest(' '.join(job))}"
        for name, job in zip(names, jobs, strict=True)
    ]


def job_name(options: Mapping[str, str | None]) -> str:
    """The name of a job with these options: the last parts of the keys, and the values but None."""
    short = zip(_shortened_keys(list(options)), options.values(), strict=True)
    return _name(f"{name}={value}" for name, value in short if value is not None)


def sweep_name(overrides: list[str], varying: Iterable[str], choices: dict[str, str]) -> str:
    """A name for a sweep: what its jobs have in common, so that a wider grid has the same name.

    Args:
        overrides: those of the jobs.
        varying: the keys with several values.
        choices: the choice made for each group, such as {"model": "densenet_bc_100"}.
    """
    named = ["experiment"] if "experiment" in choices else ["model", "data"]
    parts = [choices[name] for name in named if name not in varying]
    left_out = {*named, *varying, *WITHOUT_EFFECT, "seed", "trainer"}
    for name, value in ((key(one), one.partition("=")[2]) for one in overrides):
        if name not in left_out:
            parts.append(value if name in GROUPS else f"{name.rpartition('.')[2]}={value}")
    return _name(parts, "-")


@dataclass(frozen=True)
class _StoredRun:
    """A run that a folder contains.

    Attributes:
        folder: its own.
        digest: the digest of its images; None if its record does not have it.
        may_change: whether its configuration may find other images at another time.
    """

    folder: Path
    digest: str | None
    may_change: bool


class Folders:
    """The runs in a sweep's folder, found by the identity of their configurations."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images = ImageDigests()
        self._runs: dict[str, list[_StoredRun]] = {}
        self._owners: dict[str, str] = {}  # folder name in lower case -> identity of the run there
        self._rerun: dict[Path, Path] = {}  # run on other images -> folder for the same on today's
        for path in sorted(folder.glob("*/run.json")):
            try:
                record = RunRecord.read(path.parent)
            except UserError:  # the folder is left as it is, and its name is not used
                self._owners[path.parent.name.casefold()] = ""
                continue
            digest = (record.fields.get("data") or {}).get("digest")
            changeable = may_change(record.fields["config"]["data"])
            self._add(record.identity, _StoredRun(path.parent, digest, changeable))

    def find(self, name: str, config: dict[str, Any]) -> Path:
        """The folder that contains the run of a job, or else a free folder.

        A run on other images than there are now is not the run of the job.

        Args:
            name: the name of a free folder, unless it is taken.
            config: the resolved configuration of the job.
        """
        of_job = identity(config)
        runs = self._runs.get(of_job, [])
        digest = self._digest_now(runs, config)
        for run in sorted(runs, key=lambda run: run.digest is None):
            if digest is None or run.digest in (digest, None):
                return run.folder
        if digest is not None:
            before = runs[0].folder
            folder = self._rerun[before] = before.with_name(f"{before.name}~{digest[:6]}")
        elif self._owners.get(name.casefold(), of_job) != of_job:
            folder = self.folder / f"{name}~{of_job[:6]}"
        else:
            folder = self.folder / name
        self._add(of_job, _StoredRun(folder, digest, digest is not None))
        return folder

    def report_other_images(self) -> None:
        """Tell the user which runs are repeated because the images have changed since."""
        if self._rerun:
            before, now = next(iter(self._rerun.items()))
            say(
                f"the images have changed since {len(self._rerun)} of the runs, such as "
                f"{relative(before)}; it is kept, and run again on today's images in {relative(now)}"
            )
        for reason in self.images.errors:
            say(f"cannot check whether the images are still those of the finished runs: {reason}")

    def _digest_now(self, runs: list[_StoredRun], config: dict[str, Any]) -> str | None:
        """The digest of a job's images if they may not be those of its runs; else None."""
        changeable = may_change(config["data"])
        if any(run.digest and (run.may_change or changeable) for run in runs):
            return self.images.of(config["data"])
        return None

    def _add(self, of_run: str, run: _StoredRun) -> None:
        self._runs.setdefault(of_run, []).append(run)
        self._owners[run.folder.name.casefold()] = of_run


def _shortened_keys(keys: list[str]) -> list[str]:
    """Each key without its sections, unless two would then be the same."""
    last = [name.rpartition(".")[2] for name in keys]
    return [short if last.count(short) == 1 else name for short, name in zip(last, keys, strict=True)]


def _name(parts: Iterable[str], separator: str = ",") -> str:
    """The parts joined to a name that needs no quotes in shells and file systems."""
    name = separator.join(part for part in map(_safe, parts) if part)
    if len(name) > LONGEST_NAME:
        name = f"{name[: LONGEST_NAME - 7]}~{_digest(name)}"
    return name or "default"


def _safe(part: str) -> str:
    key, equals, value = part.rpartition("=")
    value = re.sub(r"^[^A-Za-z0-9._+~-]+|[^A-Za-z0-9._+~-]+$", "", value)
    return re.sub(r"[^A-Za-z0-9._+=~-]+", "-", f"{key}{equals}{value}").strip(".")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:6]
