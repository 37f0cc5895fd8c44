"""Look for broken and repeated images in seconds: their first and last bytes, and a sample of them."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Mapping

import numpy as np
from PIL import Image

from densenet_cli.data.file_list import CHUNK, Paths, in_chunks
from densenet_cli.data.image_check import Check, check_images, content_digest, kept_numbers
from densenet_cli.data.photo import formats
from densenet_cli.data.photo_split import Files

log = logging.getLogger(__name__)

SAMPLE = 1000  # images that are decoded, always the same ones; all if there are no more
SUSPECTS = 10_000  # at most so many images with odd first or last bytes are decoded
COMPARED = 10_000  # at most so many files that may have equal content are compared
FIRST, LAST = 16, 64  # bytes of each file that are read
ENDS = {b"\xff\xd8\xff": b"\xff\xd9", b"\x89PNG": b"IEND"}  # how files of JPEG and PNG begin and end


def check_quickly(check: Check, files: Mapping[str, Files]) -> tuple[np.ndarray, bool]:
    """Check the images as far as that takes seconds, unless they were good before and did not change.

    The first and last bytes of each file are read. A file is decoded if these are not those of an
    image, and if it is in a sample. So what is found are all files that are empty, cut off (JPEG and
    PNG) or no images, and faults that many files share; single damaged images are not.

    Files with equal content have equal sizes and last bytes. Those that have are read as a whole.

    Args:
        check: how.
        files: of each split.

    Returns:
        64 bits of each file, (n,) uint64, equal for equal content; and whether they are so for all
        files: of more than COMPARED files that may be equal, only some are compared.

    Raises:
        UserError: as `check_images`.
    """
    paths = Paths.joined(part.paths for part in files.values())
    sample = np.random.default_rng(0).permutation(len(paths))[:SAMPLE]
    if len(sample) == len(paths):
        return check_images(check, paths)[0], True
    stamps = np.concatenate([part.stamps for part in files.values()])
    with kept_numbers(check.root, "-quick") as (kept, keep):
        state = _state(files, check.max_pixels)
        if len(kept) == 2 + len(paths) and kept[0] == state:
            return kept[2:], bool(kept[1])
        suspects, digests = _looked_at(paths, stamps[:, 0])
        decoded = np.union1d(sample, suspects[:SUSPECTS])
        _, are_good = check_images(check, paths.chosen(decoded), total=len(paths))
        splits = np.repeat(np.arange(len(files)), [len(part.paths) for part in files.values()])
        are_all = _compare(paths, splits, digests)
        if are_good:
            keep(np.concatenate([np.array([state, are_all], np.uint64), digests]))
        return digests, are_all


def _state(files: Mapping[str, Files], max_pixels: int | None) -> np.uint64:
    """64 bits that change when files, their splits or the limit do."""
    state = hashlib.sha256(repr((max_pixels, {k: v.state() for k, v in files.items()})).encode())
    return np.uint64(int.from_bytes(state.digest()[:8], "little"))


def _looked_at(paths: Paths, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The indices of files that may be broken, and 64 bits of the size and last bytes of each file."""
    log.info("looking at the first and last bytes of %d images", len(paths))
    suspects: list[int] = []
    digests: list[np.ndarray] = []
    last_log = time.monotonic()

    def look(part: range) -> tuple[list[int], list[int]]:
        odd, equal = [], []
        for index, size in zip(part, sizes[part.start : part.stop].tolist(), strict=True):
            first, last = _ends(paths.encoded(index), size)
            if _is_odd(first, last):
                odd.append(index)
            equal.append(hash((size, last or index)))
        return odd, equal

    for done, (odd, equal) in enumerate(in_chunks(len(paths), look), start=1):
        suspects += odd
        digests.append(np.array(equal, np.int64).view(np.uint64))
        if time.monotonic() > last_log + 10:
            last_log = time.monotonic()
            log.info("looked at %d of %d images", min(done * CHUNK, len(paths)), len(paths))
    return np.array(suspects, np.int64), np.concatenate(digests)


def _ends(path: bytes, size: int) -> tuple[bytes, bytes]:
    """The first and the last bytes of a file; none if it cannot be read, which decoding reports."""
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return b"", b""
    try:
        return os.pread(file, FIRST, 0), os.pread(file, LAST, max(0, size - LAST))
    except OSError:
        return b"", b""
    finally:
        os.close(file)


def _is_odd(first: bytes, last: bytes) -> bool:
    """Whether a file may be no image, or not a whole one."""
    for begin, end in ENDS.items():
        if first.startswith(begin):
            return end not in last
    known = (Image.OPEN[name][1] for name in formats())
    return len(first) < FIRST or not any(accept is not None and accept(first) for accept in known)


def _compare(paths: Paths, splits: np.ndarray, digests: np.ndarray) -> bool:
    """Replace digests that are equal in several splits by those of the whole files; whether of all."""
    order = np.argsort(digests, kind="stable")
    groups = np.flatnonzero(np.diff(digests[order], prepend=~digests[order[:1]]))
    lowest = np.minimum.reduceat(splits[order], groups)
    highest = np.maximum.reduceat(splits[order], groups)
    lengths = np.diff(groups, append=len(order))
    is_shared = np.repeat(lowest != highest, lengths)
    shared = order[is_shared]
    for number, index in enumerate(shared.tolist()):
        digests[index] = content_digest(paths[index]) if number < COMPARED else number
    return len(shared) <= COMPARED
