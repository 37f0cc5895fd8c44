"""The compiled library: built for this processor at its first use, then found in the cache.

Compiling takes some seconds. The compiler is $CXX, or c++; the cache is ~/.cache/densenet-cli/kernels,
or $DENSENET_KERNELS.
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

import torch  # its OpenMP threads are to be ours: loaded before the library

log = logging.getLogger(__name__)

SOURCES = Path(__file__).parent / "cpu"
NATIVE = "-mcpu=native" if platform.machine() in ("aarch64", "arm64") else "-march=native"
# Hidden, so that libraries for two kinds of processor in one process do not share their variables.
OPTIONS = (
    *("-std=c++17", "-O3", NATIVE, "-fno-math-errno", "-fopenmp"),
    *("-fvisibility=hidden", "-fPIC", "-shared"),
)
TIMEOUT_S = 600


class Unavailable(Exception):
    """Why the library cannot be had here."""


@functools.cache
def load() -> ctypes.CDLL:
    """The library, ready to be called.

    Raises:
        Unavailable: if there is no compiler that can build it, or the processor can't run it.
    """
    assert torch.get_num_threads() > 0
    path = build()
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise Unavailable(f"{path} cannot be loaded: {error}") from error
    if not library.densenet_start():
        raise Unavailable("the system does not permit the use of AMX tiles")
    return library


def build() -> Path:
    """The library's file, compiled unless the cache has it. Raises Unavailable."""
    compiler = shlex.split(os.environ.get("CXX") or "c++")
    if shutil.which(compiler[0]) is None:
        raise Unavailable(f"there is no C++ compiler: {compiler[0]}")
    folder = Path(os.environ.get("DENSENET_KERNELS") or "~/.cache/densenet-cli/kernels").expanduser()
    path = folder / f"{_key(compiler)}.so"
    if path.exists():
        return path
    log.warning("compiling the kernels for this processor, which takes some seconds, once")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            built = Path(scratch) / path.name
            _compile(compiler, built)
            built.replace(path)  # whole or not at all, also if another process builds it too
    except OSError as error:
        raise Unavailable(f"{error.filename or folder}: {error.strerror or error}") from error
    return path


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
        raise Unavailable(f"{compiler[0]} cannot compile it: {first.strip()}")


def _key(compiler: list[str]) -> str:
    """A name for all that the compiled file depends on; home folders are shared by many machines."""
    digest = hashlib.sha256()
    for source in sorted(SOURCES.iterdir()):
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    version = subprocess.run([*compiler, "--version"], capture_output=True, check=False).stdout
    for part in (
        version,
        " ".join(OPTIONS).encode(),
        platform.platform().encode(),
        _processor().encode(),
    ):
        digest.update(part + b"\0")
    return digest.hexdigest()[:16]


def _processor() -> str:
    """The instructions that the processor has, or at least its name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
