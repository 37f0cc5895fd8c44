"""outcomes.json: which test images a run classified correctly, with the weights that it reports.

    {"format": 1, "images": 10000, "digest": "9f…", "right": "/v9…"}

`right` has one bit for each test image, in the order of the data set, in base64; the first image is the
highest bit of the first byte, and the last byte is filled up with zeros. `digest` is data.digest of
run.json: outcomes of two runs belong together only if it is the same.
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
    """

    right: Sequence[bool]
    digest: str | None

    @property
    def error(self) -> float:
        """The test error in percent."""
        return 100 * (len(self.right) - sum(self.right)) / len(self.right)


def write(folder: Path, outcomes: Outcomes) -> None:
    """Write outcomes.json in the folder of a run. Raises UserError if it cannot be written."""
    bits = np.packbits(np.asarray(outcomes.right, dtype=bool))
    content = {
        "format": FORMAT,
        "images": len(outcomes.right),
        "digest": outcomes.digest,
        "right": base64.b64encode(bits.tobytes()).decode(),
    }
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
    return Outcomes(
        np.unpackbits(np.frombuffer(bits, np.uint8), count=images).astype(bool).tolist(), digest
    )


def _bytes(text: Any) -> bytes:
    """The bytes of a text in base64; none for anything else."""
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError):
        return b""
