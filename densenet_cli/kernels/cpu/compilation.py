"""The compiled library: built for this processor at first use, then read from the cache.

Compiling takes some seconds. The compiler is $CXX, else c++. The cache is $DENSENET_KERNELS, else
densenet-cli/kernels in the user's cache folder; if neither can be written, each process compiles the
library for itself.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch  # loaded first, so that the library uses torch's OpenMP threads
from filelock import FileLock

from densenet_cli.files.cache import cache_folder

log = logging.getLogger(__name__)

SOURCES = Path(__file__).parent / "src"
NATIVE = "-mcpu=native" if platform.machine() in ("aarch64", "arm64") else "-march=native"
# Symbols are hidden, so that two libraries in one process do not share their variables.
OPTIONS = [
    "-std=c++17",
    "-O3",
    NATIVE,
    "-fno-math-errno",
    "-fopenmp",
    "-fvisibility=hidden",
    "-fPIC",
    "-shared",
]
TIMEOUT_S = 600


class Unavailable(Exception):
    """Why there is no engine here."""


@functools.cache
def load() -> ctypes.CDLL:
    """The library, ready to be called.

    Raises:
        Unavailable: no compiler here can build it, or the processor cannot run it.
    """
    assert torch.get_num_threads() > 0
    compiler = shlex.split(os.environ.get("CXX") or "c++")
    if shutil.which(compiler[0]) is None:
        raise Unavailable(f"there is no C++ compiler: {compiler[0]}")
    name = f"{_key(compiler)}.so"
    folder = kernels_folder()
    if folder is not None and (folder / name).exists():
        library = _loaded(folder / name)
    else:
        log.warning("compiling the kernels for this processor, which takes some seconds")
        library = _kept(folder, name, compiler) or _not_kept(name, compiler)
    if not library.densenet_start():
        raise Unavailable("the system does not permit the use of AMX tiles")
    return library


def kernels_folder() -> Path | None:
    """The folder of compiled kernels; None for a user without a home folder."""
    typed = os.environ.get("DENSENET_KERNELS")
    try:
        return Path(typed).expanduser() if typed else cache_folder("kernels")
    except RuntimeError:  # ~ of a user without a home
        return None


def _kept(folder: Path | None, name: str, compiler: list[str]) -> ctypes.CDLL | None:
    """The library, compiled into the cache. If that cannot be written: None, with a warning."""
    reason = "this user has no home folder"
    if folder is not None:
        try:
            _fill(folder, name, compiler)
            return _loaded(folder / name)
        except OSError as error:
            reason = f"{error.filename or folder}: {error.strerror or error}"
    log.warning(
        "the compiled kernels cannot be kept: %s; DENSENET_KERNELS=FOLDER names another folder", reason
    )
    return None


def _fill(folder: Path, name: str, compiler: list[str]) -> None:
    """Compile the library into the cache. Raises OSError if the cache cannot be written."""
    folder.mkdir(parents=True, exist_ok=True)
    # One folder per machine: a lock does not hold between machines that share the cache.
    scratch = folder / f"compiling-on-{platform.node()}"
    with FileLock(f"{scratch}.lock"):
        shutil.rmtree(scratch, ignore_errors=True)  # left by a process that was killed
        if (folder / name).exists():  # another process was first
            return
        scratch.mkdir()
        try:
            _compile(compiler, scratch / name)
            (scratch / name).replace(folder / name)  # atomic
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _not_kept(name: str, compiler: list[str]) -> ctypes.CDLL:
    """The library, compiled for this process only. Raises Unavailable."""
    try:
        with tempfile.TemporaryDirectory(prefix="densenet-cli-") as scratch:
            _compile(compiler, Path(scratch) / name)
            return _loaded(Path(scratch) / name)  # once it is loaded, the file is not needed
    except OSError as error:
        raise Unavailable(f"{error.filename or 'no folder'}: {error.strerror or error}") from error


def _loaded(path: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise Unavailable(f"{path} cannot be loaded: {error}") from error


def _compile(compiler: list[str], path: Path) -> None:
    command = [*compiler, *OPTIONS, str(SOURCES / "kernels.cpp"), "-o", str(path)]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, errors="replace", check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{compiler[0]} took more than {TIMEOUT_S} s") from error
    if answer.returncode:
        lines = answer.stderr.strip().splitlines() or [f"status {answer.returncode}"]
        first = next((line for line in lines if "error" in line), lines[0])
        raise Unavailable(f"{compiler[0]} cannot compile the kernels: {first.strip()}")


def _key(compiler: list[str]) -> str:
    """A digest of all that the compiled file depends on; several machines may share a home folder."""
    digest = hashlib.sha256()
    for source in sorted(SOURCES.iterdir()):
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    version = subprocess.run([*compiler, "--version"], capture_output=True, check=False).stdout
    for part in (
        version,
        shlex.join([*compiler, *OPTIONS]).encode(),
        platform.platform().encode(),
        _processor().encode(),
    ):
        digest.update(part + b"\0")
    return digest.hexdigest()[:16]


def _processor() -> str:
    """The processor's instruction sets, or at least its name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
