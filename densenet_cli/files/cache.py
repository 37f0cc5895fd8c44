"""The cache folder, for files that can be made again at any time; no command may depend on it."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(name: str) -> Path | None:
    """The user's folder for one kind of cached file; None for a user without a home folder.

    The folder is not created here, and writing there may fail, because a home folder can be full or
    read-only. Callers must then work without the cache.

    Args:
        name: the kind, such as "kernels".
    """
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "densenet-cli" / name
    except RuntimeError:  # neither $HOME nor an entry in the list of users
        return None
