"""One image as it stands in a pack: its own file, a smaller JPEG file, or a file of raw pixels."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from densenet_cli.data.pack import RAW, Packing
from densenet_cli.data.photo import TooLarge, reason, upright


@dataclass(frozen=True)
class Entry:
    """An image that is ready to be written into a pack, or what is wrong with it.

    Attributes:
        content: of its file in the pack; of raw pixels, without the header.
        ending: of the name of that file, after that of its own file: ".jpg", ".ppm", ".pgm" or none.
        height, width, channels, pixels, digest: see `pack.ROW`.
        is_copy: whether it is from another pack.
        fault: why it cannot be read; empty if it can.
        needed: for an image that exceeds the limit on pixels, the limit it needs; 0 if unknown.
    """

    content: bytes = b""
    ending: str = ""
    height: int = 0
    width: int = 0
    channels: int = 0
    pixels: int = 0
    digest: int = 0
    is_copy: bool = False
    fault: str = ""
    needed: int | None = None

    @property
    def header(self) -> bytes:
        """What stands before raw pixels, so that they are a portable pixmap."""
        if self.channels == 0:
            return b""
        return f"{'P6' if self.channels == 3 else 'P5'}\n{self.width} {self.height}\n255\n".encode()


def entry(path: str, packing: Packing, packed_before: Callable[[str, int, int], Entry | None]) -> Entry:
    """The image of a file, whole or resized, encoded as `packing` says.

    Args:
        path: the file.
        packing: how.
        packed_before: finds an image that was packed before; see `older_packs.OlderPacks.entry`.
    """
    try:
        content = Path(path).read_bytes()
        digest = int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")
        return packed_before(path, digest, len(content)) or _encoded(path, content, digest, packing)
    except TooLarge as error:
        return Entry(fault=str(error), needed=error.needed or 0)
    except Exception as error:  # decoders raise nearly anything
        return Entry(fault=reason(error))


def packed_entry(path: str, row: np.void, content: bytes) -> Entry:
    """An image as another pack holds it.

    Args:
        path: of its file.
        row: of the image in that pack, see `pack.ROW`.
        content: what the row points to.
    """
    names = ("height", "width", "channels", "pixels", "digest")
    height, width, channels, pixels, digest = (int(row[name]) for name in names)
    ending = _ending(path, channels, is_whole=height * width == pixels)
    return Entry(content, ending, height, width, channels, pixels, digest, is_copy=True)


def _encoded(path: str, content: bytes, digest: int, packing: Packing) -> Entry:
    image, pixels, is_whole = upright(content, packing.size)
    width, height = image.size
    channels = 0
    if packing.quality == RAW:
        channels, content = 3 if image.mode == "RGB" else 1, image.tobytes()
    elif not is_whole:
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=packing.quality)
        content = stream.getvalue()
    return Entry(content, _ending(path, channels, is_whole), height, width, channels, pixels, digest)


def _ending(path: str, channels: int, is_whole: bool) -> str:
    if channels:
        return ".ppm" if channels == 3 else ".pgm"
    is_named_so = os.path.splitext(path)[1].lower() in (".jpg", ".jpeg")
    return "" if is_whole or is_named_so else ".jpg"
