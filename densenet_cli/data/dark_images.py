"""A warning of 16-bit images that are nearly black, such as X-rays of 12 bits: white is 65,535."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from PIL import Image

from densenet_cli.data.photo import formats
from densenet_cli.plain_text import counted, printable

log = logging.getLogger(__name__)

SAMPLE = 50  # images that are looked at, always the same ones
WHITE = 2**16 - 1
MOST_BITS = 14  # if no image of the sample needs more, they do not reach a quarter of white


def warn_of_dark_images(paths: Sequence[str]) -> None:
    """Warn if the 16-bit images in a sample of some files use the lower values only."""
    sample = np.random.default_rng(0).permutation(len(paths))[:SAMPLE]
    largest = {paths[index]: _largest(paths[index]) for index in sample.tolist()}
    found = {path: value for path, value in largest.items() if value}
    if not found or max(found.values()) >= 2**MOST_BITS:
        return
    path = max(found, key=found.__getitem__)
    bits = max(found.values()).bit_length()
    log.warning(
        "%s of 16 bits in a sample of %d are dark: no value is above %s, in %s, and white is %s. If "
        "they hold %d bits, make copies with their white at %s, as by ImageMagick's "
        "`mogrify -path COPIES -evaluate multiply %.4f '*.png'`",
        counted(len(found), "image"),
        len(sample),
        f"{found[path]:,}",
        printable(path),
        f"{WHITE:,}",
        bits,
        f"{WHITE:,}",
        WHITE / (2**bits - 1),
    )


def _largest(path: str) -> int:
    """The largest value of an image of 16 bits; 0 of other images."""
    try:
        with Image.open(path, formats=formats()) as file:
            return int(np.asarray(file).max()) if file.mode.startswith("I") else 0
    except Exception:  # decoders raise nearly anything; the check of images reports it
        return 0
