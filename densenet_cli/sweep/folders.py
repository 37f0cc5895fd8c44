"""The folders of a sweep: what its jobs are called, and which folder holds which run."""

from __future__ import annotations

import hashlib
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from densenet_cli.config.compose import key
from densenet_cli.options import UserError
from densenet_cli.record.identity import WITHOUT_EFFECT, identity
from densenet_cli.record.run_record import RunRecord
from densenet_cli.record.trained_on import may_change
from densenet_cli.run.summary import relative
from densenet_cli.sweep.image_digests import Images

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
    """The runs that a sweep's folder holds, each by what it is a run of.

    Attributes:
        left: the folders of runs on other images than are there now, each with the folder that stands
            for it: such a run is left as it is, and the job runs again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images = Images()
        self.left: dict[Path, Path] = {}
        self._held: dict[str, list[_Held]] = {}
        self._taken: dict[str, str] = {}  # names as a file system that ignores case would see them
        for path in sorted(folder.glob("*/run.json")):
            try:
                self._note(*_held(RunRecord.read(path.parent)))
            except UserError:  # left as it is, its name unused
                self._taken[path.parent.name.casefold()] = ""

    def place(self, name: str, config: dict[str, Any]) -> Path:
        """The folder that holds the job's run, or a free one, named so or nearly so."""
        of_job = identity(config)
        held = self._held.get(of_job, [])
        images = self._images_now(held, config)
        for one in sorted(held, key=lambda one: one.images is None):
            if images is None or one.images in (images, None):
                return one.folder
        if images is not None:
            before = held[0].folder
            folder = self.left[before] = before.with_name(f"{before.name}~{images[:6]}")
        elif self._taken.get(name.casefold(), of_job) != of_job:
            folder = self.folder / f"{name}~{of_job[:6]}"
        else:
            folder = self.folder / name
        self._note(of_job, _Held(folder, images, images is not None))
        return folder

    def say_what_is_left(self) -> None:
        """Tell the user which runs are not those of the jobs, since they were on other images."""
        if self.left:
            before, now = next(iter(self.left.items()))
            print(
                f"densenet-run: {len(self.left)} of the jobs have been run on other images than there "
                f"are now, as in {relative(before)}: that is kept as it is, and the job runs on the "
                f"images of now in {relative(now)}",
                file=sys.stderr,
            )
        for reason in self.images.missing:
            what = "whether finished runs are of the images there are now cannot be told"
            print(f"densenet-run: {what}: {reason}", file=sys.stderr)

    def _images_now(self, held: list[_Held], config: dict[str, Any]) -> str | None:
        """The digest of a job's images if it may be another one than that of the runs it has."""
        changeable = may_change(config["data"])
        if any(one.images and (one.may_change or changeable) for one in held):
            return self.images.digest(config["data"])
        return None

    def _note(self, of_run: str, held: _Held) -> None:
        self._held.setdefault(of_run, []).append(held)
        self._taken[held.folder.name.casefold()] = of_run


@dataclass(frozen=True)
class _Held:
    """A run that a folder holds.

    Attributes:
        folder: its own.
        images: the digest of its images; None if it is not known.
        may_change: whether its configuration may find other images another time.
    """

    folder: Path
    images: str | None
    may_change: bool


def _held(record: RunRecord) -> tuple[str, _Held]:
    """What it is a run of, and where and on what it was run."""
    images = (record.fields.get("data") or {}).get("digest")
    return record.identity, _Held(record.folder, images, may_change(record.fields["config"]["data"]))


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
