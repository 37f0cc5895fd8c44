"""One image as it stands in a pack: its own file, a smaller JPEG file, or a file of raw pixels."""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import dataclass
from pathlib import Path

from densenet_cli.data.pack import RAW, Packing
from densenet_cli.data.photo import TooLarge, reason, upright


@dataclass(frozen=True)
class Entry:
    """An image that is ready to be written into a pack, or what is wrong with it.

    Attributes:
        content: of its file in the pack.
        ending: of the name of that file, after that of its own file: ".jpg", ".ppm", ".pgm" or none.
        header: the number of bytes before the first pixel.
        height, width, channels, pixels, digest: see `pack.ROW`.
        fault: why it cannot be read; empty if it can.
        needed: for an image that exceeds the limit on pixels, the limit it needs; 0 if unknown.
    """

    content: bytes = b""
    ending: str = ""
    header: int = 0
    height: int = 0
    width: int = 0
    channels: int = 0
    pixels: int = 0
    digest: int = 0
    fault: str = ""
    needed: int | None = None


def entry(path: str, packing: Packing) -> Entry:
    """The image of a file, whole or resized, encoded as `packing` says."""
    try:
        return _entry(path, Path(path).read_bytes(), packing)
    except TooLarge as error:
        return Entry(fault=str(error), needed=error.needed or 0)
    except Exception as error:  # decoders raise nearly anything
        return Entry(fault=reason(error))


def _entry(path: str, content: bytes, packing: Packing) -> Entry:
    image, pixels, is_whole = upright(content, packing.size)
    width, height = image.size
    digest = int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")
    if packing.quality == RAW:
        kind, channels, ending = ("P6", 3, ".ppm") if image.mode == "RGB" else ("P5", 1, ".pgm")
        header = f"{kind}\n{width} {height}\n255\n".encode()
        whole = header + image.tobytes()
        return Entry(whole, ending, len(header), height, width, channels, pixels, digest)
    if is_whole:
        return Entry(content, "", 0, height, width, 0, pixels, digest)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=packing.quality)
    is_named_so = os.path.splitext(path)[1].lower() in (".jpg", ".jpeg")
    ending = "" if is_named_so else ".jpg"
    return Entry(stream.getvalue(), ending, 0, height, width, 0, pixels, digest)
