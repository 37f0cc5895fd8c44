"""Decode every image once before training, to report broken images and images with equal content."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock

from densenet_cli.data.photo import TooLarge, limit_pixels, read_rgb, reason
from densenet_cli.files.cache import cache_folder
from densenet_cli.options import UserError
from densenet_cli.plain_text import printable

log = logging.getLogger(__name__)
CHUNK = 5000  # images decoded before the cache is written
NAMED = 100  # at most so many broken files in one message


@dataclass(frozen=True)
class Examined:
    """The result of decoding a file.

    Attributes:
        fault: the file and what is wrong with it; empty if nothing is.
        needed: for an image that exceeds the limit on pixels, the limit it needs; 0 if unknown.
        digest: 64 bits, the same for equal content.
        pixels: the number of its pixels.
    """

    fault: str = ""
    needed: int | None = None
    digest: int = 0
    pixels: int = 0


@dataclass(frozen=True)
class Check:
    """How images are checked.

    Attributes:
        root: the folder as the user typed it, for messages and the name of the cache file.
        threads: the number of images decoded at a time.
        max_pixels: see `photo.limit_pixels`.
        skip_broken: whether to warn of broken images instead of raising an error.
    """

    root: object
    threads: int
    max_pixels: int | None
    skip_broken: bool = False


def check_images(
    check: Check, paths: Sequence[str], total: int | None = None
) -> tuple[np.ndarray, bool]:
    """Decode the images, except those that were good before and have not changed since.

    The user's cache folder keeps three numbers for each good file. If several processes check the same
    images, one decodes them and the others wait for its result.

    Args:
        check: how.
        paths: the image files.
        total: the number of all images, if these are only some of them; for messages.

    Returns:
        A digest of the content of each good file, (n,) uint64; of others any number. And whether all
        are good.

    Raises:
        UserError: with all broken files and the reasons, and all files that exceed the limit.
    """
    root, max_pixels = check.root, check.max_pixels
    limit_pixels(max_pixels)
    with kept_numbers(root) as (kept, keep):
        notes = kept.reshape(-1, 3) if len(kept) % 3 == 0 else kept[:0].reshape(-1, 3)
        states = np.array([_state(path) for path in paths], dtype=np.uint64)
        good = notes if max_pixels is None else notes[notes[:, 2] <= max_pixels]
        unknown = np.flatnonzero(~np.isin(states, good[:, 0]))
        if len(unknown):
            log.info("checking %d of %d images of %s", len(unknown), total or len(paths), root)
        faults: list[Examined] = []
        begin = 0
        for examined in _decoded([paths[int(index)] for index in unknown], check.threads):
            chunk = states[unknown[begin : begin + len(examined)]].tolist()
            rows = [
                (state, one.digest, one.pixels)
                for state, one in zip(chunk, examined, strict=True)
                if not one.fault
            ]
            notes = np.concatenate([notes, np.array(rows, np.uint64).reshape(-1, 3)])
            keep(notes)  # a check that is interrupted resumes here
            faults += [one for one in examined if one.fault]
            begin += len(examined)
    if faults:
        images = f"{total or len(paths)} images of {root}"
        message = faults_message(faults, images, max_pixels, check.skip_broken)
        if not check.skip_broken:
            raise UserError(message)
        log.warning("%s", message)
    order = np.argsort(notes[:, 0], kind="stable")
    is_good = np.isin(states, notes[:, 0])
    digests = np.arange(len(states), dtype=np.uint64)
    digests[is_good] = notes[order[np.searchsorted(notes[order, 0], states[is_good])], 1]
    return digests, not faults


def faults_message(
    faults: list[Examined], images: str, max_pixels: int | None, skip_broken: bool = False
) -> str:
    """All faults, one file per line."""
    broken = [one.fault for one in faults if one.needed is None]
    large = [one.fault for one in faults if one.needed is not None]
    lines: list[str] = []
    if broken:
        remedy = (
            "they are skipped"
            if skip_broken
            else "repair or delete them, or type data.skip_broken=true"
        )
        lines += [f"{len(broken)} of {images} are broken; {remedy}:", *_first(broken)]
    if large:
        needed = [one.needed for one in faults if one.needed is not None]
        enough = max(needed) if all(needed) else "null"
        rule = f"have more than data.max_pixels={max_pixels}"
        skipped = "they are skipped; " if skip_broken else ""
        remedy = f"{skipped}type data.max_pixels={enough} to read them"
        lines += [f"{len(large)} of {images} {rule}; {remedy}:", *_first(large)]
    return "\n".join(lines)


def _first(faults: list[str]) -> list[str]:
    more = [f"  and {len(faults) - NAMED} more"] if len(faults) > NAMED else []
    return [f"  {fault}" for fault in faults[:NAMED]] + more


def _decoded(paths: list[str], threads: int) -> Iterator[list[Examined]]:
    """The results, CHUNK images at a time."""
    last_log = time.monotonic()
    with ThreadPoolExecutor(threads) as pool:
        for begin in range(0, len(paths), CHUNK):
            yield list(pool.map(_examined, paths[begin : begin + CHUNK]))
            if time.monotonic() > last_log + 10:
                last_log = time.monotonic()
                log.info("checked %d of %d images", min(begin + CHUNK, len(paths)), len(paths))


def _examined(path: str) -> Examined:
    try:
        height, width, _ = read_rgb(path).shape
        return Examined(digest=content_digest(path), pixels=height * width)
    except TooLarge as error:
        return Examined(f"{printable(path)}: {error}", needed=error.needed or 0)
    except Exception as error:  # decoders raise nearly anything
        return Examined(f"{printable(path)}: {reason(error)}")


def content_digest(path: str) -> int:
    """64 bits of the content of a file. Raises OSError if it cannot be read."""
    digest = hashlib.blake2b(digest_size=8)
    with open(path, "rb") as stream:
        while part := stream.read(1 << 20):
            digest.update(part)
    return int.from_bytes(digest.digest(), "little")


def _state(path: str) -> int:
    """64 bits that change when a file is moved or written; 0 if there is no file."""
    try:
        status = os.stat(path)
    except OSError:
        return 0  # a dangling link, which cannot be decoded either
    state = f"{os.path.abspath(path)}\0{status.st_size}\0{status.st_mtime_ns}"
    return int.from_bytes(hashlib.sha256(os.fsencode(state)).digest()[:8], "little")


@contextmanager
def kept_numbers(
    root: object, kind: str = ""
) -> Iterator[tuple[np.ndarray, Callable[[np.ndarray], None]]]:
    """What is known of the images of a folder: numbers, uint64, in the user's cache folder.

    Within the context no other process reads or writes them.

    Args:
        root: the folder as the user typed it.
        kind: of the numbers, as a part of the file's name.

    Yields:
        The numbers, none if there are no or damaged ones, and a function that keeps other ones.
    """
    cache = _cache_file(Path(os.path.expanduser(str(root))), kind)
    with nullcontext() if cache is None else FileLock(cache.with_suffix(".lock")):
        yield _load(cache), functools.partial(_save, cache)


def _cache_file(root: Path, kind: str) -> Path | None:
    """The file for what is known of images; None if it cannot be written."""
    folder = cache_folder("checked-images")
    if folder is None:
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:  # read-only, or another user's
        return None
    return folder / (hashlib.sha256(os.fsencode(root.absolute())).hexdigest()[:16] + kind + ".npy")


def _load(cache: Path | None) -> np.ndarray:
    try:
        if cache is not None:
            return np.load(cache, allow_pickle=False).astype(np.uint64).ravel()
    except (OSError, ValueError, EOFError):
        pass  # no cache yet, or a broken one: check all images
    return np.empty(0, dtype=np.uint64)


def _save(cache: Path | None, notes: np.ndarray) -> None:
    if cache is None:
        return
    part = cache.with_suffix(".part")
    try:
        with part.open("wb") as stream:
            np.save(stream, notes)
        part.replace(cache)
    except OSError as error:
        log.warning("cannot write the cache of checked images: %s", error)
