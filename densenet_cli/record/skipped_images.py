"""skipped.json: the images that a run skipped because they cannot be read (data.skip_broken=true).

    {"format": 1, "images": {"train": {"/photos/train/ant/1.jpg": "image file is truncated"}}}

`skipped_images` in run.json has their numbers by split. Only images that the run has tried to read are
here: others may be broken too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from densenet_cli.files.atomic_file import replace_file
from densenet_cli.files.plain_file import UnreadableFile, read_json

FORMAT = 1
NAME = "skipped.json"


def write(folder: Path, images: Mapping[str, Mapping[str, str]]) -> None:
    """Write skipped.json in the folder of a run.

    Args:
        folder: of the run.
        images: split -> name of the image -> why it cannot be read.

    Raises:
        UserError: if it cannot be written.
    """
    replace_file(folder / NAME, json.dumps({"format": FORMAT, "images": images}, indent=1) + "\n")


def read(folder: Path) -> dict[str, dict[str, str]]:
    """The images, as `write` was given them; none if there is no file.

    Raises:
        UnreadableFile: if the file is damaged.
    """
    path = folder / NAME
    try:
        content = read_json(path)
    except FileNotFoundError:
        return {}
    is_ours = isinstance(content, dict) and content.get("format") == FORMAT
    images = content.get("images") if is_ours else None
    if not isinstance(images, dict) or not all(map(_are_reasons, images.values())):
        raise UnreadableFile(path, f"does not hold the images that a run skipped (format {FORMAT})")
    return images


def _are_reasons(names: object) -> bool:
    return isinstance(names, dict) and all(isinstance(reason, str) for reason in names.values())
