"""outcomes.json: which test images a run classified correctly, with the weights that it reports.

    {"format": 1, "images": 10000, "digest": "9f…", "right": "/v9…", "skipped": [17]}

`right` has one bit for each test image, in the order of the data set, in base64; the first image is the
highest bit of the first byte, and the last byte is filled up with zeros. `digest` is data.digest of
run.json: outcomes of two runs belong together only if it is the same. `skipped`, if there, are the
indices of images that could not be read, from 0; their bits are 0 and do not count.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from densenet_cli.files.atomic_file import replace_file
from densenet_cli.files.plain_file import UnreadableFile, read_json

FORMAT = 1
NAME = "outcomes.json"


@dataclass(frozen=True)
class Outcomes:
    """What a run made of each test image.

    Args:
        right: whether each image was classified correctly, in the order of the data set.
        digest: of the data set; None if it has none.
        skipped: the indices of images that could not be read; they count as neither right nor wrong.
    """

    right: Sequence[bool]
    digest: str | None
    skipped: tuple[int, ...] = ()

    @property
    def error(self) -> float:
        """The test error in percent."""
        counted = len(self.right) - len(self.skipped)
        return 100 * (counted - sum(self.right)) / counted


def of(found: Sequence[int], digest: str | None) -> Outcomes:
    """The outcomes of a test: 1 of an image classified correctly, 0 of another, -1 of one skipped."""
    skipped = tuple(index for index, one in enumerate(found) if one < 0)
    return Outcomes([one > 0 for one in found], digest, skipped)


def write(folder: Path, outcomes: Outcomes) -> None:
    """Write outcomes.json in the folder of a run. Raises UserError if it cannot be written."""
    bits = np.packbits(np.asarray(outcomes.right, dtype=bool))
    content: dict[str, Any] = {
        "format": FORMAT,
        "images": len(outcomes.right),
        "digest": outcomes.digest,
        "right": base64.b64encode(bits.tobytes()).decode(),
    }
    if outcomes.skipped:
        content["skipped"] = list(outcomes.skipped)
    replace_file(folder / NAME, json.dumps(content) + "\n")


def read(folder: Path) -> Outcomes | None:
    """The outcomes in the folder of a run; None if it keeps none, as older runs.

    Raises:
        UnreadableFile: if the file is damaged.
    """
    path = folder / NAME
    try:
        content = read_json(path)
    except FileNotFoundError:
        return None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UnreadableFile(path, f"does not hold outcomes of densenet-run (format {FORMAT})")
    images, digest = content.get("images"), content.get("digest")
    bits = _bytes(content.get("right"))
    if not isinstance(images, int) or images < 1 or len(bits) != -(-images // 8):
        raise UnreadableFile(path, f"has images={images}, which is not the number of its outcomes")
    if not isinstance(digest, (str, type(None))):
        raise UnreadableFile(path, "has a digest that is not text")
    right = np.unpackbits(np.frombuffer(bits, np.uint8), count=images).astype(bool)
    skipped = content.get("skipped", [])
    if not isinstance(skipped, list) or not all(
        type(one) is int and 0 <= one < images and not right[one] for one in skipped
    ):
        raise UnreadableFile(path, "has skipped images that are none of its wrong ones")
    if len(skipped) >= images:
        raise UnreadableFile(path, "has no image that was not skipped")
    return Outcomes(right.tolist(), digest, tuple(skipped))


def _bytes(text: Any) -> bytes:
    """The bytes of a text in base64; none for anything else."""
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError):
        return b""
