"""What a network was trained on, as records and checkpoints store it, and how other images differ.

The facts are a dictionary: `class_names`, `image_size`, `sizes`, `statistics`, `digest` and others that
run.json has under `data`. A fact that one side lacks is not compared; the records of outputs/study, for
example, have no digest.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

from densenet_cli.options import OptionError, UserError

Facts = Mapping[str, Any]

DIGITS = "densenet_cli.data.digits.Digits"
PLACES = ("root", "images", "table", "test_table")  # options that say where images are
# Options that do not decide which images a data set has.
COMMON = (
    *("batch_size", "num_workers", "augment", "validation", "seed", "normalise"),
    *("drop_last", "border", "hold_out", "antialias", "test_crops", "randaugment", "train_size"),
    *("pack", "pack_size", "pack_quality"),
)


def other_classes(before: Facts, now: Facts) -> str | None:
    """Describe the first difference between two lists of classes; None if there is none.

    Args:
        before: what the network was trained on.
        now: the images there are now.
    """
    names = [facts.get("class_names") or [] for facts in (before, now)]
    if [] in names or names[0] == names[1]:
        return None
    pairs = enumerate(zip_longest(*names), start=1)
    number, (was, found) = next((number, pair) for number, pair in pairs if pair[0] != pair[1])
    before_count, now_count = map(len, names)
    if was is None:
        return f"class {number} of {now_count}, {found}, is new"
    if found is None:
        return f"class {number} of {before_count}, {was}, is missing"
    return f"class {number} was {was} (of {before_count}) and is {found} now (of {now_count})"


def other_images(before: Facts, now: Facts) -> str | None:
    """Describe the first difference between two sets of images; None if no difference is known.

    Args:
        before: what the network was trained on.
        now: the images there are now.
    """
    if difference := other_classes(before, now):
        return difference
    for split in ("train", "validation", "test"):
        sizes = [(facts.get("sizes") or {}).get(split) for facts in (before, now)]
        if None not in sizes and sizes[0] != sizes[1]:
            return f"there are {sizes[1]:,} {split} images now; there were {sizes[0]:,}"
    digests = [facts.get("digest") for facts in (before, now)]
    if None not in digests and digests[0] != digests[1]:
        return "the number of images is the same, but file names or contents are not"
    return None


def may_change(data: Mapping[str, Any]) -> bool:
    """Whether a configuration may find other images at another time.

    Only the digits, which come with a package, and files with verified checksums cannot change.

    Args:
        data: the section `data` of the configuration.
    """
    return data.get("_target_") != DIGITS and data.get("verify") is not True


def refusal(rule: str, data: Mapping[str, Any]) -> UserError:
    """An error about images, which names their table or folder if they have one.

    Args:
        rule: the end of a sentence about the images.
        data: the section `data` of the configuration.
    """
    key = next((name for name in ("table", "root") if name in data), None)
    return UserError(f"data: {rule}") if key is None else OptionError(f"data.{key}", data[key], rule)
