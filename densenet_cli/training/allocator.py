"""How this process gets its memory from the system: glibc's malloc told to keep what is freed."""

from __future__ import annotations

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of <malloc.h>


def keep_freed_memory() -> bool:
    """Let buffers be used again in the next step, rather than given back to the system.

    By default glibc maps a large buffer anew for each request and unmaps it when it is freed, so
    that a training step on the CPU meets a page fault, and zeroes a page, for every 4 KiB that it
    computes. Peak memory stays as it was, since steps are alike; memory between steps is higher.

    Only for Linux with glibc, and not where the user has chosen how to allocate, by MALLOC_*
    or GLIBC_TUNABLES, or another library by LD_PRELOAD. See mallopt(3).

    Returns:
        Whether it was done.
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
