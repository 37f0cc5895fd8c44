"""Memory allocation of this process: glibc's malloc keeps freed memory for the next step."""

from __future__ import annotations

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of <malloc.h>


def keep_freed_memory() -> bool:
    """Keep freed buffers in the process, so that the next training step can use them again.

    By default glibc maps each large buffer from the system and unmaps it when it is freed. A training
    step on the CPU then has a page fault, and zeroes a page, for every 4 KiB that it computes. Peak
    memory does not change, since all steps need the same; memory between steps is higher.

    Works on Linux with glibc, unless the user has configured the allocator (MALLOC_*,
    GLIBC_TUNABLES) or loads another one (LD_PRELOAD). See mallopt(3).

    Returns:
        Whether malloc was configured.
    """
    if not sys.platform.startswith("linux") or _chosen_by_user():
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    no_mapping = libc.mallopt(M_MMAP_MAX, 0)
    return bool(no_mapping and libc.mallopt(M_TRIM_THRESHOLD, -1))


def _chosen_by_user() -> bool:
    names = [name for name in os.environ if name.startswith("MALLOC_")]
    return bool(names or os.environ.get("GLIBC_TUNABLES") or os.environ.get("LD_PRELOAD"))
