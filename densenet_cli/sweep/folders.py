"""The folders of a sweep: what its jobs are called, and which folder holds which run."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from densenet_cli.compose import key
from densenet_cli.identity import WITHOUT_EFFECT, identity
from densenet_cli.options import UserError
from densenet_cli.record import RunRecord

LONGEST = 120  # characters of a folder's name; file systems allow 255 bytes
GROUPS = ("model", "data", "recipe")


def job_names(jobs: list[list[str]]) -> list[str]:
    """A name for each job: the options in which the jobs differ, as in growth_rate=24,seed=1."""
    options = [{key(word): word.partition("=")[2] for word in job} for job in jobs]
    keys = sorted(
        dict.fromkeys(name for job in options for name in job), key=lambda name: name == "seed"
    )
    varying = [name for name in keys if len({job.get(name) for job in options}) > 1] or keys
    names = [name_of({name: job.get(name) for name in varying}) for job in options]
    times = Counter(names)
    return [
        name if times[name] == 1 else f"{name}~{_digest(' '.join(job))}"
        for name, job in zip(names, jobs, strict=True)
    ]


def name_of(options: Mapping[str, str | None]) -> str:
    """A job's name: its options by the last part of their keys; those that are None are left out."""
    short = zip(_short(list(options)), options.values(), strict=True)
    return _name(f"{name}={value}" for name, value in short if value is not None)


def sweep_name(words: list[str], varying: Iterable[str], choices: dict[str, str]) -> str:
    """A name for a sweep: what its jobs have in common, so that a wider grid has the same.

    Args:
        words: all that is typed for the jobs.
        varying: the keys that are swept.
        choices: the choice made for each group that has one, as {"model": "densenet_bc_100"}.
    """
    named = ["experiment"] if "experiment" in choices else ["model", "data"]
    parts = [choices[name] for name in named if name not in varying]
    left_out = {*named, *varying, *WITHOUT_EFFECT, "seed", "trainer"}
    for name, value in ((key(word), word.partition("=")[2]) for word in words):
        if name not in left_out:
            parts.append(value if name in GROUPS else f"{name.rpartition('.')[2]}={value}")
    return _name(parts, "-")


class Folders:
    """The runs that a sweep's folder holds, each by what it is a run of."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._held: dict[str, Path] = {}
        self._taken: dict[str, str] = {}  # names as a file system that ignores case would see them
        for path in sorted(folder.glob("*/run.json")):
            try:
                self._note(path.parent, RunRecord.read(path.parent).identity)
            except UserError:  # left as it is, its name unused
                self._taken[path.parent.name.casefold()] = ""

    def place(self, name: str, config: dict[str, Any]) -> Path:
        """The folder that holds the job's run, or a free one, named so or nearly so."""
        of_job = identity(config)
        if of_job in self._held:
            return self._held[of_job]
        if self._taken.get(name.casefold(), of_job) != of_job:
            name = f"{name}~{of_job[:6]}"
        folder = self.folder / name
        self._note(folder, of_job)
        return folder

    def _note(self, folder: Path, of_run: str) -> None:
        self._held.setdefault(of_run, folder)
        self._taken[folder.name.casefold()] = of_run


def _short(keys: list[str]) -> list[str]:
    """Each key without its sections, unless two would then be the same."""
    last = [name.rpartition(".")[2] for name in keys]
    return [short if last.count(short) == 1 else name for short, name in zip(last, keys, strict=True)]


def _name(parts: Iterable[str], separator: str = ",") -> str:
    """Parts as a name that shells and file systems take as it is."""
    name = separator.join(part for part in map(_safe, parts) if part)
    if len(name) > LONGEST:
        name = f"{name[: LONGEST - 7]}~{_digest(name)}"
    return name or "default"


def _safe(part: str) -> str:
    key, equals, value = part.rpartition("=")
    value = re.sub(r"^[^A-Za-z0-9._+~-]+|[^A-Za-z0-9._+~-]+$", "", value)
    return re.sub(r"[^A-Za-z0-9._+=~-]+", "-", f"{key}{equals}{value}").strip(".")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:6]
