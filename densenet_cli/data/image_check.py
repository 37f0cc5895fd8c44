"""Decode every image once, before training, and name all that are broken."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from filelock import FileLock

from densenet_cli.cache import cache_folder
from densenet_cli.data.photo import read_rgb
from densenet_cli.options import UserError

log = logging.getLogger(__name__)
CHUNK = 5000  # images decoded between two notes of what is good
NAMED = 100  # broken files that are named; more would hide the message


def check_images(root: Path, paths: Sequence[str], threads: int) -> None:
    """Decode the images; those found good before and not changed since are left out.

    What was found good is noted in the user's cache folder, as one number a file. Of several
    processes one decodes, the others wait and then find it noted.

    Args:
        root: names the cache file.
        paths: the image files.
        threads: how many images are decoded at a time.

    Raises:
        UserError: naming all broken files and why they are.
    """
    cache = _cache_file(root)
    with nullcontext() if cache is None else FileLock(cache.with_suffix(".lock")):
        good = _load(cache)
        states = np.array([_state(path) for path in paths], dtype=np.uint64)
        unknown = np.flatnonzero(~np.isin(states, good))
        if not len(unknown):
            return
        log.info("checking %d of %d images of %s", len(unknown), len(paths), root)
        broken: list[str] = []
        begin = 0
        for faults in _decoded([paths[int(index)] for index in unknown], threads):
            chunk = states[unknown[begin : begin + len(faults)]]
            good = np.append(good, chunk[[fault is None for fault in faults]])
            _save(cache, good)  # an interrupted check goes on from here
            broken += filter(None, faults)
            begin += len(faults)
    if broken:
        more = [f"and {len(broken) - NAMED} more"] if len(broken) > NAMED else []
        problem = f"{len(broken)} of {len(paths)} images of {root} are broken; mend or delete them:"
        raise UserError("\n  ".join([problem, *broken[:NAMED], *more]))


def _decoded(paths: list[str], threads: int) -> Iterator[list[str | None]]:
    """What is wrong with each image, None if nothing is; CHUNK images at a time."""
    spoken = time.monotonic()
    with ThreadPoolExecutor(threads) as pool:
        for begin in range(0, len(paths), CHUNK):
            yield list(pool.map(_fault, paths[begin : begin + CHUNK]))
            if time.monotonic() > spoken + 10:
                spoken = time.monotonic()
                log.info("checked %d of %d images", min(begin + CHUNK, len(paths)), len(paths))


def _fault(path: str) -> str | None:
    """The file and what is wrong with it; None if it can be read."""
    try:
        read_rgb(path)
    except Exception as error:  # decoders raise nearly anything
        return f"{path}: {error}"
    return None


def _state(path: str) -> int:
    """64 bits that change when a file is moved, resized or written; 0 if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return 0  # a link to nowhere, which cannot be decoded either
    state = f"{os.path.abspath(path)}\0{status.st_size}\0{status.st_mtime_ns}"
    return int.from_bytes(hashlib.sha256(os.fsencode(state)).digest()[:8], "little")


def _cache_file(root: Path) -> Path | None:
    """Where the states of good files are kept; None if nothing can be written there."""
    folder = cache_folder("checked-images")
    if folder is None:
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:  # read-only, or another user's
        return None
    return folder / (hashlib.sha256(os.fsencode(root.absolute())).hexdigest()[:16] + ".npy")


def _load(cache: Path | None) -> np.ndarray:
    try:
        if cache is not None:
            return np.load(cache, allow_pickle=False).astype(np.uint64)
    except (OSError, ValueError, EOFError):
        pass  # none yet, or a broken one: check all
    return np.empty(0, dtype=np.uint64)


def _save(cache: Path | None, good: np.ndarray) -> None:
    if cache is None:
        return
    part = cache.with_suffix(".part")
    try:
        with part.open("wb") as stream:
            np.save(stream, good)
        part.replace(cache)
    except OSError as error:
        log.warning("cannot note which images are good: %s", error)
