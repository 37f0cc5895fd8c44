"""Where Triton keeps compiled kernels, so that only the first run on a kind of GPU compiles them.

Compiling the 55 programs of a DenseNet-BC (100, 12) for sm_90 took 49 s on a crowded Xeon, and reading
them 1.1 s. Triton writes each file atomically; processes that start together compile the same kernels,
each for itself. Left to itself it keeps them in ~/.triton/cache, which for a user without a home folder
is a folder named ~ in the working folder, and fails where that cannot be written.
"""

from __future__ import annotations

import functools
import logging
import os
import tempfile

from densenet_cli.kernels.cpu.compilation import kernels_folder

log = logging.getLogger(__name__)

CHOSEN_BY_USER = ("TRITON_CACHE_DIR", "TRITON_HOME")


def keep_compiled() -> None:
    """Let Triton keep its kernels beside those for the CPU, unless the user has chosen a place.

    If nothing can be written there, they last as long as this process.
    """
    if not any(name in os.environ for name in CHOSEN_BY_USER):
        os.environ["TRITON_CACHE_DIR"] = _folder()


@functools.cache
def _folder() -> str:
    reason, kernels = "this user has no home folder", kernels_folder()
    if kernels is not None:
        folder = kernels / "triton"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            reason = f"{error.filename or folder}: {error.strerror or error}"
        else:
            if not any(folder.iterdir()):
                log.warning("compiling the kernels for this GPU, which takes up to a minute")
            return str(folder)
    log.warning(
        "the compiled kernels cannot be kept: %s; DENSENET_KERNELS=FOLDER names another folder", reason
    )
    return _lasting().name


@functools.cache
def _lasting() -> tempfile.TemporaryDirectory[str]:
    """A folder that is removed when this process ends."""
    return tempfile.TemporaryDirectory(prefix="densenet-cli-", ignore_cleanup_errors=True)
