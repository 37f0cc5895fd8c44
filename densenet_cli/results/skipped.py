"""The images that runs skipped since they cannot be read, and whether all skipped the same."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence

from densenet_cli.files.plain_file import UnreadableFile
from densenet_cli.plain_text import printable, shortened
from densenet_cli.record import skipped_images
from densenet_cli.results.records import Run
from densenet_cli.results.settings import Setting

log = logging.getLogger(__name__)

OF_SPLIT = {"train": "training", "validation": "validation", "test": "test"}
LONGEST = 60  # characters of the names of images
Skipped = Mapping[str, frozenset[str]]
"""The names of images, without the folder of all, by split; splits without any are left out."""


def skipped(run: Run) -> Skipped:
    """The images that a run skipped. What skipped.json does not name is called "image 1", ..."""
    counts = {split: count for split, count in _counts(run).items() if count}
    if not counts:
        return {}
    try:
        names = skipped_images.read(run.folder)
    except UnreadableFile as error:
        log.warning("%s", error)
        names = {}
    return {
        split: frozenset(_inner(name, run) for name in names[split])
        if len(names.get(split, ())) == count
        else frozenset(f"image {number}" for number in range(1, count + 1))
        for split, count in counts.items()
    }


def notes_on_skipped(settings: Sequence[Setting]) -> list[str]:
    """A sentence for each set of images of which finished runs skipped some."""
    groups: dict[tuple[str, str | None], list[Setting]] = {}
    for setting in settings:
        if setting.done:
            groups.setdefault((setting.data, setting.done[0].images), []).append(setting)
    notes = []
    for (data, _), group in groups.items():
        found = {setting: [skipped(run) for run in setting.done] for setting in group}
        every = [one for own in found.values() for one in own]
        if not any(every):
            continue
        on = f"On {printable(data)}, i" if len(groups) > 1 else "I"
        if all(one == every[0] for one in every):
            shown = _in_words(every[:1], group[0].done[0])
            notes.append(f"{on}mages that cannot be read were skipped, the same in all runs: {shown}.")
            continue
        parts = [f"{one.title}: {_in_words(own, one.done[0])}" for one, own in found.items()]
        notes.append(
            f"{on}mages that cannot be read were skipped, not the same in all runs, so differences of "
            f"their errors can come from that: {' | '.join(parts)}."
        )
    return notes


def as_facts(run: Run) -> dict[str, list[str]]:
    """The names of the images that a run skipped, by split, in order."""
    return {split: sorted(names) for split, names in skipped(run).items()}


def as_text(names: Sequence[str]) -> str:
    """How many there are, and the first ones: "12: cat/1.png, cat/7.png, …"."""
    return f"{len(names):,}: {shortened(', '.join(map(printable, names)), LONGEST)}"


def _counts(run: Run) -> Mapping[str, int]:
    return run.fields.get("skipped_images") or {}


def _inner(name: str, run: Run) -> str:
    """The path of an image in the folder of all, which may be elsewhere for another run."""
    _, pack, inner = name.rpartition(".pack/")
    if pack:
        return inner
    data = run.config["data"]
    table = data.get("table")
    root = data.get("root") or data.get("images") or (os.path.dirname(table) if table else "")
    return name.removeprefix(printable(root)).lstrip("/\\")


def _in_words(found: Sequence[Skipped], run: Run) -> str:
    """What runs of a setting skipped: "1 of 2,000 training images and 2 to 3 of 100 test images"."""
    sizes, parts = (run.fields.get("data") or {}).get("sizes") or {}, []
    for split, name in OF_SPLIT.items():
        counts = sorted({len(one.get(split, ())) for one in found})
        if counts[-1]:
            number = " to ".join(f"{count:,}" for count in dict.fromkeys((counts[0], counts[-1])))
            parts.append(f"{number} of {sizes.get(split, 0):,} {name} images")
    return " and ".join(parts) or "none"
